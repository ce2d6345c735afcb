# SPDX-License-Identifier: Apache-2.0
"""Mounts and device nodes for a container that exists already.

What is to be mounted is cloned on the host, attached nowhere (Linux 5.2), given its attributes
(5.12), and then attached on a descriptor of its place in the container: no path is looked up twice.
An older kernel gets the same by mount(2) from and onto descriptors, made what it is to be in a
second step; the container has not started, so nobody sees the moment between.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import syscalls
from cdi_base.errors import HookError, shown
from cdi_base.files import same_file
from cdi_base.json_object import number_of, object_of, objects_of, text_of, texts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdi_runtime.prestart.container_root import ContainerRoot, Journal

    Document = dict[str, object]

_ATTRIBUTES = {
    "ro": syscalls.ATTR_RDONLY,
    "nosuid": syscalls.ATTR_NOSUID,
    "nodev": syscalls.ATTR_NODEV,
    "noexec": syscalls.ATTR_NOEXEC,
}
_PROPAGATION = {
    "private": syscalls.MS_PRIVATE,
    "rprivate": syscalls.MS_PRIVATE,
    "slave": syscalls.MS_SLAVE,
    "rslave": syscalls.MS_SLAVE,
}
"""A mount that told the host of what happens in it is no file of a driver."""
_WITHOUT_EFFECT = frozenset(
    ("bind", "rbind", "rw", "suid", "dev", "exec", "relatime", "defaults", "idmap", "ridmap")
)
_NODE = syscalls.ATTR_NOSUID | syscalls.ATTR_NOEXEC
_KINDS = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "p": stat.S_IFIFO}
_TOO_OLD = frozenset((errno.ENOSYS, errno.EPERM))
"""No such call, or a filter that denies what it does not know."""
_CONFIG = "config.json"


class Source:
    """Something of the host that is to appear in the container."""

    __slots__ = ("_finished", "attributes", "path", "propagation", "recursive", "status", "tree")

    def __init__(
        self, path: str, attributes: int, propagation: int, *, recursive: bool = False
    ) -> None:
        """Open it, and clone its mount where the kernel can.

        Raises:
            HookError: it is not there, or may not be mounted.
        """
        self.path = path
        self.attributes = attributes
        self.propagation = propagation
        self.recursive = recursive
        self.tree: int | None = None
        self._finished = False
        try:
            found = os.open(path, os.O_PATH | os.O_CLOEXEC)
            self.status = os.fstat(found)
            self._clone(found)
            os.close(found)
        except OSError as error:
            raise HookError(
                f"{shown(path)} of the host: {error.strerror}", code="CDG-T101"
            ) from None
        except ValueError:
            raise HookError(f"{shown(path)} is not a path of the host", code="CDG-T101") from None

    def _clone(self, found: int) -> None:
        try:
            self.tree = syscalls.clone_tree(found, recursive=self.recursive)
        except OSError as error:
            if error.errno not in _TOO_OLD:
                raise
            return
        try:
            syscalls.set_attributes(
                self.tree, self.attributes, self.propagation, recursive=self.recursive
            )
            self._finished = True
        except OSError as error:
            if error.errno not in _TOO_OLD:
                raise

    def attach(self, root: ContainerRoot, path: str, journal: Journal) -> None:
        """Mount it in the container, in whose mount namespace the process is.

        Raises:
            OSError, HookError: it cannot be mounted there.
        """
        is_directory = stat.S_ISDIR(self.status.st_mode)
        place = root.mount_point(path, directory=is_directory)
        try:
            self._attach(root, path, place, journal)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(place)

    def _attach(self, root: ContainerRoot, path: str, place: int, journal: Journal) -> None:
        if self.tree is None:
            self._bind(place)
            tree = root.find(path)
            if not same_file(os.fstat(tree), self.status):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        else:
            tree = self.tree
            syscalls.attach(tree, place)
        journal.attached(tree)
        if not self._finished:
            syscalls.mount(None, tree, None, self.propagation | self._depth)
            remount = syscalls.MS_REMOUNT | syscalls.MS_BIND
            there = os.fstatvfs(tree).f_flag & _LOCKABLE
            syscalls.mount(None, tree, None, remount | there | self.attributes)

    @property
    def _depth(self) -> int:
        return syscalls.MS_REC if self.recursive else 0

    def _bind(self, place: int) -> None:
        # The container has not left the host's root yet: the path means the same here.
        source = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        if not same_file(os.fstat(source), self.status):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self.path)
        syscalls.mount(source, place, None, syscalls.MS_BIND | self._depth)
        os.close(source)


class Mount:
    """A bind mount of an OCI configuration."""

    __slots__ = ("destination", "source")

    def __init__(self, document: Document) -> None:
        """Read it, and open its source.

        Raises:
            HookError: it is of another type, has an option that cannot be given, or has no source.
        """
        self.destination = text_of(document, "destination", _CONFIG)
        options = texts_of(document, "options", _CONFIG)
        if not {"bind", "rbind"} & set(options):
            raise self._impossible("it is no bind mount")
        attributes, propagation = 0, syscalls.MS_PRIVATE
        for option in options:
            attributes |= _ATTRIBUTES.get(option, 0)
            propagation = _PROPAGATION.get(option, propagation)
            if option not in {*_ATTRIBUTES, *_PROPAGATION, *_WITHOUT_EFFECT}:
                raise self._impossible(f"option {shown(option)}")
        source = text_of(document, "source", _CONFIG)
        if not (source.startswith("/") and self.destination.startswith("/")):
            raise self._impossible("its paths are not absolute")
        self.source = Source(source, attributes, propagation, recursive="rbind" in options)

    def _impossible(self, reason: str) -> HookError:
        return HookError(
            f"a mount that a prestart hook cannot make, on {shown(self.destination)}: {reason}",
            code="CDG-T003",
        )


class Node:
    """A device node of an OCI configuration."""

    __slots__ = ("gid", "kind", "mode", "number", "path", "source", "uid")

    def __init__(self, document: Document, host: Mapping[str, str]) -> None:
        """Read it, and open the host's node.

        Args:
            document: an entry of `linux.devices`.
            host: where the host has the node, by its path in the container.
        """
        self.path = text_of(document, "path", _CONFIG)
        self.kind = text_of(document, "type", _CONFIG)
        if self.kind not in _KINDS or not self.path.startswith("/"):
            raise HookError(
                f"device node {shown(self.path)} is none that can be made", code="CDG-T103"
            )
        major, minor = (number_of(document, key, _CONFIG) or 0 for key in ("major", "minor"))
        self.number = os.makedev(major, minor) if self.kind != "p" else 0
        self.mode = number_of(document, "fileMode", _CONFIG)
        self.uid = number_of(document, "uid", _CONFIG) or 0
        self.gid = number_of(document, "gid", _CONFIG) or 0
        self.source: Source | None = None
        try:
            found = Source(host.get(self.path, self.path), _NODE, syscalls.MS_PRIVATE)
        except HookError:
            # With its numbers in the spec it is made without the host's.
            return
        if self._is(found.status):
            self.source = found

    def _is(self, status: os.stat_result) -> bool:
        same_kind = stat.S_IFMT(status.st_mode) == _KINDS[self.kind]
        return same_kind and status.st_rdev == self.number

    def place(self, root: ContainerRoot, journal: Journal, *, bound: bool) -> None:
        """Make it in the container's /dev, or mount the host's there.

        Args:
            root: of the container.
            journal: of what was done.
            bound: whether the container could open no node that is made in it: it has a user
                namespace.
        """
        status = root.status(self.path)
        if status is not None and self._is(status):
            # The engine made it, or the container has the host's /dev.
            return
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise HookError(
                f"{shown(self.path)} of the container is something else already", code="CDG-T103"
            )
        made = None if bound or status is not None else root.node_directory(self.path)
        if made is not None:
            self._make(*made, journal)
            return
        if self.source is None:
            raise HookError(
                f"{shown(self.path)} can only be a mount of the host's node, and the host has none",
                code="CDG-T103",
            )
        self.source.attach(root, self.path, journal)

    def _make(self, parent: int, name: str, journal: Journal) -> None:
        mode = 0o666 if self.mode is None else stat.S_IMODE(self.mode)
        try:
            os.mknod(name, _KINDS[self.kind] | 0o600, self.number, dir_fd=parent)
            journal.made(parent, name)
            made = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            # A descriptor of O_PATH takes neither call itself.
            os.chown(f"/proc/self/fd/{made}", self.uid, self.gid)
            os.chmod(f"/proc/self/fd/{made}", mode)
            os.close(made)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None
        finally:
            os.close(parent)


_LOCKABLE = 0xF
"""ro, nosuid, nodev, noexec: a container's root may not take them from what it was handed."""


def mounts_of(config: Document) -> list[Mount]:
    """Those of a configuration, their sources opened."""
    return [Mount(each) for each in objects_of(config, "mounts", _CONFIG)]


def nodes_of(config: Document, host: Mapping[str, str]) -> list[Node]:
    """Those of a configuration; `host` has the host's path of each, by the container's."""
    linux = object_of(config, "linux", _CONFIG)
    return [Node(each, host) for each in objects_of(linux, "devices", _CONFIG)]
