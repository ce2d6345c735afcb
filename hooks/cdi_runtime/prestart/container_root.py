# SPDX-License-Identifier: Apache-2.0
"""The root of a container that exists already: where things are mounted and nodes are made.

A mount point that is missing is made in the image, or in a tmpfs that is the container's alone: a
volume is somebody else's, and nothing is made in it. What was made is taken away again if the
container does not start.
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
"""Of statvfs(3)."""
MAX_LINKS_TO_NOWHERE = 8
"""Links that lead to each other, and the last to nowhere: one is made at a time."""


class Journal:
    """What was done to a container, so that it can be undone."""

    def __init__(self) -> None:
        self._done: list[tuple[str, int, str]] = []

    def attached(self, mount: int) -> None:
        """Remember a mount, by its root."""
        self._done.append((_ATTACHED, mount, ""))

    def made(self, parent: int, name: str, *, directory: bool = False) -> None:
        """Remember a name in a directory."""
        self._done.append((_DIRECTORY if directory else _FILE, os.dup(parent), name))

    def undo(self) -> None:
        """Take it all away, the last first; what does not go, goes with the container."""
        while self._done:
            kind, where, name = self._done.pop()
            try:
                if kind == _ATTACHED:
                    syscalls.unmount(where)
                elif kind == _DIRECTORY:
                    os.rmdir(name, dir_fd=where)
                else:
                    os.unlink(name, dir_fd=where)
            except OSError:
                continue


class ContainerRoot(RootFs):
    """A root file system that things are mounted in."""

    def __init__(self, descriptor: int, journal: Journal, table: mounts.MountTable) -> None:
        """Take one over.

        Args:
            descriptor: an `O_PATH` descriptor of it.
            journal: what is done is written down there.
            table: the mounts before; those that are made here tell nobody, and are no tmpfs.
        """
        super().__init__(descriptor)
        self._journal = journal
        self._table = table

    def mount_point(self, path: str, *, directory: bool) -> int:
        """An `O_PATH` descriptor of a place to mount a directory, or a file, on.

        Links are followed inside the root. The place is made, empty, if there is none.

        Raises:
            OSError: it cannot be made.
            HookError: it is of the other kind, lies where nothing may be made or mounted, or what
                is mounted there would appear elsewhere too.
        """
        try:
            found = self.find(path)
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
            self._make(path, directory=directory)
            found = self.find(path)
        status = os.fstat(found)
        if stat.S_ISDIR(status.st_mode) != directory:
            is_one = "a directory" if not directory else "no directory"
            raise HookError(f"{shown(path)} is {is_one} in the image", code="CDG-T102")
        if same_file(status, os.fstat(self.descriptor)):
            raise HookError(
                f"{shown(path)} is the container's root: nothing is mounted over it",
                code="CDG-T102",
            )
        if not path.startswith("/proc/") and (
            syscalls.file_system(found) == syscalls.PROC_SUPER_MAGIC
        ):
            raise HookError(
                f"{shown(path)} leads into the container's /proc: refused", code="CDG-T102"
            )
        if self._table.tells_others(found):
            raise HookError(
                f"{shown(path)} lies in a volume with shared propagation: what is mounted there "
                "would appear on the host",
                code="CDG-T102",
            )
        return found

    def node_directory(self, path: str) -> tuple[int, str] | None:
        """Where a device node may be made: its directory, made if it is missing, and its name.

        None if that is no tmpfs of the container's alone, or one whose nodes cannot be opened.
        """
        home, name = self._home(path)
        if home is self or os.fstatvfs(home.descriptor).f_flag & _ST_NODEV:
            return None
        return home._open_parent(name)  # noqa: SLF001  (one of our own kind)

    def _make(self, path: str, *, directory: bool, links: int = MAX_LINKS_TO_NOWHERE) -> None:
        home, name = self._home(path)
        if directory:
            os.close(home._make_directories(name))  # noqa: SLF001
            return
        ahead = None
        parent, last = home._open_parent(name)  # noqa: SLF001
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(last, flags, 0o644, dir_fd=parent)
            self._journal.made(parent, last)
            home._set_owner(made)  # noqa: SLF001
            os.close(made)
        except FileExistsError:
            ahead = link_text(parent, last)
            if ahead is None or not links:
                raise HookError(
                    f"{shown(path)} is a link to nowhere in the image", code="CDG-T102"
                ) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(parent)
        if ahead is not None:
            # runc and crun make what a link to nowhere leads to, when they mount by themselves.
            ahead = ahead if ahead.startswith("/") else f"{path.rpartition('/')[0]}/{ahead}"
            self._make(ahead, directory=False, links=links - 1)

    def _home(self, path: str) -> tuple[ContainerRoot, str]:
        """What a name that is missing is made through, and the name there.

        Raises:
            HookError: that is a volume.
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
                found = self._resolve(self.descriptor, above, False)
            except OSError as error:
                if error.errno in NOWHERE:
                    continue
                raise OSError(error.errno, error.strerror, path) from None
            if not self._table.is_of_the_container_alone(found):
                raise HookError(
                    f"{shown(path)} is missing in a volume, where nothing is made", code="CDG-T102"
                )
            return type(self)(found, self._journal, self._table), f"/{'/'.join(names[count:])}"
        return self, path

    def _make_directory(self, parent: int, name: str) -> int:
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            made = super()._make_directory(parent, name)
            self._journal.made(parent, name, directory=True)
            return made
        return super()._make_directory(parent, name)
