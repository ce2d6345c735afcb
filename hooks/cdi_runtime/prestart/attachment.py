# SPDX-License-Identifier: Apache-2.0
"""Attaches mounts and device nodes to a container that exists already.

A source is cloned on the host as a detached mount (Linux 5.2), gets its attributes (5.12), and is
then attached at a descriptor of its mount point in the container, so no path is resolved twice. On
an older kernel mount(2) does the same with descriptors, and a second call sets the attributes; the
container has not started, so no process sees the mount without them.
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

    from cdi_runtime.prestart.container_root import ContainerRoot, UndoLog

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
"""Shared propagation is not among them: mounts in the container would appear on the host."""
_WITHOUT_EFFECT = frozenset(
    ("bind", "rbind", "rw", "suid", "dev", "exec", "relatime", "defaults", "idmap", "ridmap")
)
_NODE = syscalls.ATTR_NOSUID | syscalls.ATTR_NOEXEC
_KINDS = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "p": stat.S_IFIFO}
_TOO_OLD = frozenset((errno.ENOSYS, errno.EPERM))
"""The kernel lacks the system call, or a seccomp filter denies it."""
_CONFIG = "config.json"


class Source:
    """A file or directory of the host that is mounted in the container."""

    __slots__ = (
        "_has_attributes",
        "attributes",
        "path",
        "propagation",
        "recursive",
        "status",
        "tree",
    )

    def __init__(
        self, path: str, attributes: int, propagation: int, *, recursive: bool = False
    ) -> None:
        """Open the source, and clone its mount if the kernel can.

        Raises:
            HookError: the source does not exist, or may not be mounted.
        """
        self.path = path
        self.attributes = attributes
        self.propagation = propagation
        self.recursive = recursive
        self.tree: int | None = None
        self._has_attributes = False
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            self.status = os.fstat(descriptor)
            self._clone(descriptor)
            os.close(descriptor)
        except OSError as error:
            raise HookError(
                f"cannot mount {shown(path)} of the host: {error.strerror}", code="CDG-T101"
            ) from None
        except ValueError:
            raise HookError(f"{shown(path)} is not a path of the host", code="CDG-T101") from None

    def _clone(self, descriptor: int) -> None:
        try:
            self.tree = syscalls.clone_tree(descriptor, recursive=self.recursive)
        except OSError as error:
            if error.errno not in _TOO_OLD:
                raise
            return
        try:
            syscalls.set_attributes(
                self.tree, self.attributes, self.propagation, recursive=self.recursive
            )
            self._has_attributes = True
        except OSError as error:
            if error.errno not in _TOO_OLD:
                raise

    def attach(self, root: ContainerRoot, path: str, undo_log: UndoLog) -> None:
        """Mount the source in the container; the process is in its mount namespace.

        Args:
            root: the container's root.
            path: the mount point in the container.
            undo_log: records the mount.

        Raises:
            OSError, HookError: the source cannot be mounted there.
        """
        is_directory = stat.S_ISDIR(self.status.st_mode)
        mount_point = root.mount_point(path, directory=is_directory)
        try:
            self._attach(root, path, mount_point, undo_log)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(mount_point)

    def _attach(self, root: ContainerRoot, path: str, mount_point: int, undo_log: UndoLog) -> None:
        if self.tree is None:
            self._bind(mount_point)
            tree = root.find(path)
            if not same_file(os.fstat(tree), self.status):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        else:
            tree = self.tree
            syscalls.attach(tree, mount_point)
        undo_log.add_mount(tree)
        if not self._has_attributes:
            syscalls.mount(None, tree, None, self.propagation | self._depth)
            remount = syscalls.MS_REMOUNT | syscalls.MS_BIND
            present = os.fstatvfs(tree).f_flag & _LOCKABLE
            syscalls.mount(None, tree, None, remount | present | self.attributes)

    @property
    def _depth(self) -> int:
        return syscalls.MS_REC if self.recursive else 0

    def _bind(self, mount_point: int) -> None:
        # The container has not left the host's root yet: the path leads to the same file here.
        source = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        if not same_file(os.fstat(source), self.status):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self.path)
        syscalls.mount(source, mount_point, None, syscalls.MS_BIND | self._depth)
        os.close(source)


class Mount:
    """A bind mount of an OCI configuration."""

    __slots__ = ("destination", "source")

    def __init__(self, document: Document) -> None:
        """Read the entry, and open its source.

        Raises:
            HookError: the mount is not a bind mount, has an unsupported option, or its source
                cannot be opened.
        """
        self.destination = text_of(document, "destination", _CONFIG)
        options = texts_of(document, "options", _CONFIG)
        if not {"bind", "rbind"} & set(options):
            raise self._unsupported("not a bind mount")
        attributes, propagation = 0, syscalls.MS_PRIVATE
        for option in options:
            attributes |= _ATTRIBUTES.get(option, 0)
            propagation = _PROPAGATION.get(option, propagation)
            if option not in {*_ATTRIBUTES, *_PROPAGATION, *_WITHOUT_EFFECT}:
                raise self._unsupported(f"option {shown(option)}")
        source = text_of(document, "source", _CONFIG)
        if not (source.startswith("/") and self.destination.startswith("/")):
            raise self._unsupported("its paths are not absolute")
        self.source = Source(source, attributes, propagation, recursive="rbind" in options)

    def _unsupported(self, reason: str) -> HookError:
        return HookError(
            f"a prestart hook cannot mount {shown(self.destination)} as the spec says: {reason}",
            code="CDG-T003",
        )


class Node:
    """A device node of an OCI configuration."""

    __slots__ = ("gid", "kind", "mode", "number", "path", "source", "uid")

    def __init__(self, document: Document, host_paths: Mapping[str, str]) -> None:
        """Read the entry, and open the host's node.

        Args:
            document: an entry of `linux.devices`.
            host_paths: the host's path of each node, by its path in the container.
        """
        self.path = text_of(document, "path", _CONFIG)
        self.kind = text_of(document, "type", _CONFIG)
        if self.kind not in _KINDS or not self.path.startswith("/"):
            raise HookError(
                f"device node {shown(self.path)} cannot be created: its type is not b, c or p, or "
                "its path is not absolute",
                code="CDG-T103",
            )
        major, minor = (number_of(document, key, _CONFIG) or 0 for key in ("major", "minor"))
        self.number = os.makedev(major, minor) if self.kind != "p" else 0
        self.mode = number_of(document, "fileMode", _CONFIG)
        self.uid = number_of(document, "uid", _CONFIG) or 0
        self.gid = number_of(document, "gid", _CONFIG) or 0
        self.source: Source | None = None
        try:
            source = Source(host_paths.get(self.path, self.path), _NODE, syscalls.MS_PRIVATE)
        except HookError:
            # The spec has the node's numbers, so it can be created without the host's node.
            return
        if self._is_same_device(source.status):
            self.source = source

    def _is_same_device(self, status: os.stat_result) -> bool:
        is_same_kind = stat.S_IFMT(status.st_mode) == _KINDS[self.kind]
        return is_same_kind and status.st_rdev == self.number

    def create(self, root: ContainerRoot, undo_log: UndoLog, *, needs_mount: bool) -> None:
        """Create the node in the container's /dev, or mount the host's node there.

        Args:
            root: the container's root.
            undo_log: records the node or the mount.
            needs_mount: whether the container, because of its user namespace, could not open a
                node that is created in it.
        """
        status = root.status(self.path)
        if status is not None and self._is_same_device(status):
            # The engine created the node, or the container has the host's /dev.
            return
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise HookError(
                f"{shown(self.path)} exists in the container and is not this device",
                code="CDG-T103",
            )
        location = None if needs_mount or status is not None else root.node_directory(self.path)
        if location is not None:
            self._make(*location, undo_log)
            return
        if self.source is None:
            raise HookError(
                f"{shown(self.path)} can only be a mount of the host's node, which does not exist",
                code="CDG-T103",
            )
        self.source.attach(root, self.path, undo_log)

    def _make(self, parent: int, name: str, undo_log: UndoLog) -> None:
        mode = 0o666 if self.mode is None else stat.S_IMODE(self.mode)
        try:
            os.mknod(name, _KINDS[self.kind] | 0o600, self.number, dir_fd=parent)
            undo_log.add_file(parent, name)
            node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            # fchown(2) and fchmod(2) reject a descriptor of O_PATH.
            os.chown(f"/proc/self/fd/{node}", self.uid, self.gid)
            os.chmod(f"/proc/self/fd/{node}", mode)
            os.close(node)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None
        finally:
            os.close(parent)


_LOCKABLE = 0xF
"""ro, nosuid, nodev, noexec: in a user namespace the kernel forbids to clear them by a remount."""


def mounts_of(config: Document) -> list[Mount]:
    """Return the mounts of a configuration, with open sources."""
    return [Mount(document) for document in objects_of(config, "mounts", _CONFIG)]


def nodes_of(config: Document, host_paths: Mapping[str, str]) -> list[Node]:
    """Return the device nodes of a configuration, with the host's nodes open.

    Args:
        config: the configuration.
        host_paths: the host's path of each node, by its path in the container.
    """
    linux = object_of(config, "linux", _CONFIG)
    return [Node(document, host_paths) for document in objects_of(linux, "devices", _CONFIG)]
