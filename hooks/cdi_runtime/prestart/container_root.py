# SPDX-License-Identifier: Apache-2.0
"""The root of a container that exists already, in which the hook mounts files and creates nodes.

A missing mount point is created in the image, or in a tmpfs that belongs to the container alone;
nothing is created in a volume. What was created is removed if the container does not start.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import syscalls
from cdi_base.errors import HookError, shown
from cdi_base.files import same_file
from cdi_base.rootfs import mounts
from cdi_base.rootfs.opening import link_text
from cdi_base.rootfs.rootfs import NOWHERE, RootFs

_ATTACHED, _DIRECTORY, _FILE = "mount", "directory", "file"
_ST_NODEV = 4
"""A flag of statvfs(3)."""
MAX_DANGLING_LINKS = 8
"""The length of a chain of links whose last link dangles; the target is created."""


class UndoLog:
    """The changes of a container, so that they can be undone."""

    def __init__(self) -> None:
        self._actions: list[tuple[str, int, str]] = []

    def add_mount(self, mount: int) -> None:
        """Add a mount, by a descriptor of its root."""
        self._actions.append((_ATTACHED, mount, ""))

    def add_file(self, parent: int, name: str) -> None:
        """Add a file that was created in a directory."""
        self._actions.append((_FILE, os.dup(parent), name))

    def add_directory(self, parent: int, name: str) -> None:
        """Add a directory that was created in a directory."""
        self._actions.append((_DIRECTORY, os.dup(parent), name))

    def undo(self) -> None:
        """Undo all actions, the last first; the runtime removes what cannot be undone."""
        while self._actions:
            kind, descriptor, name = self._actions.pop()
            try:
                if kind == _ATTACHED:
                    syscalls.unmount(descriptor)
                elif kind == _DIRECTORY:
                    os.rmdir(name, dir_fd=descriptor)
                else:
                    os.unlink(name, dir_fd=descriptor)
            except OSError:
                continue


class ContainerRoot(RootFs):
    """A container's root file system in which files are mounted."""

    def __init__(self, descriptor: int, undo_log: UndoLog, table: mounts.MountTable) -> None:
        """Take over a root.

        Args:
            descriptor: an `O_PATH` descriptor of the root.
            undo_log: records the changes.
            table: the mounts before any is added; added mounts are private and not of a tmpfs.
        """
        super().__init__(descriptor)
        self._undo_log = undo_log
        self._table = table

    def mount_point(self, path: str, *, directory: bool) -> int:
        """Return an `O_PATH` descriptor of a mount point for a directory or a file.

        Links resolve inside the root. A missing mount point is created, empty.

        Raises:
            OSError: the mount point cannot be created.
            HookError: it is not a directory, or not a file, as it should be; nothing may be
                created or mounted there; or the mount would appear outside of the container.
        """
        try:
            mount_point = self.find(path)
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
            self._make(path, directory=directory)
            mount_point = self.find(path)
        status = os.fstat(mount_point)
        if stat.S_ISDIR(status.st_mode) != directory:
            kind = "not a directory" if directory else "a directory"
            raise HookError(f"{shown(path)} is {kind} in the image", code="CDG-T102")
        if same_file(status, os.fstat(self.descriptor)):
            raise HookError(
                f"{shown(path)} is the container's root: nothing is mounted over it",
                code="CDG-T102",
            )
        if not path.startswith("/proc/") and (
            syscalls.file_system(mount_point) == syscalls.PROC_SUPER_MAGIC
        ):
            raise HookError(
                f"{shown(path)} leads into the container's /proc: nothing is mounted there",
                code="CDG-T102",
            )
        if self._table.tells_others(mount_point):
            raise HookError(
                f"{shown(path)} lies in a volume with shared propagation: a mount there would "
                "appear on the host",
                code="CDG-T102",
            )
        return mount_point

    def node_directory(self, path: str) -> tuple[int, str] | None:
        """Return the directory in which a device node can be created, and the node's name.

        A missing directory is created. None if the directory is not in a tmpfs that belongs to the
        container alone, or if the tmpfs is mounted nodev.
        """
        owner, name = self._writable_root(path)
        if owner is self or os.fstatvfs(owner.descriptor).f_flag & _ST_NODEV:
            return None
        return owner._open_parent(name)  # noqa: SLF001  (an object of this class)

    def _make(self, path: str, *, directory: bool, links: int = MAX_DANGLING_LINKS) -> None:
        owner, name = self._writable_root(path)
        if directory:
            os.close(owner._make_directories(name))  # noqa: SLF001
            return
        target = None
        parent, last = owner._open_parent(name)  # noqa: SLF001
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(last, flags, 0o644, dir_fd=parent)
            self._undo_log.add_file(parent, last)
            owner._set_owner(file)  # noqa: SLF001
            os.close(file)
        except FileExistsError:
            target = link_text(parent, last)
            if target is None or not links:
                raise HookError(
                    f"{shown(path)} is a dangling link in the image", code="CDG-T102"
                ) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(parent)
        if target is not None:
            # runc and crun create the target of a dangling link, too, for mounts of config.json.
            target = target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}"
            self._make(target, directory=False, links=links - 1)

    def _writable_root(self, path: str) -> tuple[ContainerRoot, str]:
        """Return the root or the tmpfs in which a missing path is created, and the path in it.

        Raises:
            HookError: the path lies in a volume.
        """
        names = [name for name in path.split("/") if name]
        for count in range(len(names), -1, -1):
            above = "/".join(names[:count])
            try:
                os.close(self._resolve(self.descriptor, above, True))
            except OSError as error:
                if error.errno in NOWHERE:
                    continue
                if error.errno != errno.EXDEV:
                    raise OSError(error.errno, error.strerror, path) from None
            else:
                return self, path
            try:
                mounted = self._resolve(self.descriptor, above, False)
            except OSError as error:
                if error.errno in NOWHERE:
                    continue
                raise OSError(error.errno, error.strerror, path) from None
            if not self._table.is_of_the_container_alone(mounted):
                raise HookError(
                    f"{shown(path)} is missing in a volume, and nothing is created in volumes",
                    code="CDG-T102",
                )
            return type(self)(mounted, self._undo_log, self._table), f"/{'/'.join(names[count:])}"
        return self, path

    def _make_directory(self, parent: int, name: str) -> int:
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            directory = super()._make_directory(parent, name)
            self._undo_log.add_directory(parent, name)
            return directory
        return super()._make_directory(parent, name)
