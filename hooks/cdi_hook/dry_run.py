# SPDX-License-Identifier: Apache-2.0
"""Runs `cdi-gen-hook --dry-run NAME [OPTION]...`: prints the changes of the steps on stdout.

The steps are the real ones. Their root file system keeps every change in memory, where later steps
see the change, and writes no file.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from cdi_base.errors import printable
from cdi_base.files import MAX_LINKS, write_all
from cdi_base.rootfs.opening import holds, link_text
from cdi_base.rootfs.rootfs import RootFs
from cdi_hook import __main__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union  # noqa: TID251  (never imported when it runs)

    from cdi_base.rootfs.resolve import Resolver
    from cdi_base.rootfs.rootfs import Tell

    Change = Union[bytes, str, None]
    """The result of a change: the content of a file, the target of a link, or None: removed."""

    Location = tuple[int, int, str]
    """Device and inode of an existing directory, and a path from there."""


class DryRunRootFs(RootFs):
    """A container's root file system that is only read, and the changes that were requested."""

    is_dry_run = True

    def __init__(
        self, descriptor: int, resolver: Resolver | None = None, *, tell: Tell | None = None
    ) -> None:
        super().__init__(descriptor, resolver, tell=tell)
        self._changes: dict[Location, Change] = {}

    def report_change(self, change: str) -> None:
        """Print a change on stdout."""
        os.write(1, f"{printable(change)}\n".encode())

    def find(self, path: str, *, stay: bool = False) -> int:
        """Return a descriptor of what `path` would lead to; a planned file is one in memory."""
        current = path
        for _ in range(MAX_LINKS + 1):
            try:
                folder, rest = self._reach(current, stay=stay)
                try:
                    location = _location(folder, rest)
                    is_planned = location in self._changes
                    change = self._changes[location] if is_planned else link_text(folder, rest)
                    if change is None and not is_planned:
                        return self._resolve(folder, rest, stay)
                finally:
                    os.close(folder)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None
            if change is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if isinstance(change, bytes):
                return _in_memory(change)
            current = _joined(current, change)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def status(self, path: str) -> os.stat_result | None:
        """Return the attributes of `path`; a planned directory has a type and a mode only."""
        status = super().status(path)
        if status is None and self._is_planned_directory(path):
            return os.stat_result((stat.S_IFDIR | 0o755, *[0] * 9))
        return status

    def status_in_folder(self, path: str) -> os.stat_result | None:
        """Return the same as `status`."""
        return self.status(path)

    def has(self, path: str) -> bool:
        """Whether `path` would exist."""
        try:
            folder, rest = self._reach(path, stay=False)
        except OSError:
            return False
        try:
            location = _location(folder, rest)
            if location in self._changes:
                return self._changes[location] is not None
            os.stat(rest, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return self._is_planned_directory(path)
        finally:
            os.close(folder)
        return True

    def names(self, path: str) -> list[str]:
        """Return the names that a directory would have."""
        folder, prefix = self._reach(f"{path}/", stay=False)
        try:
            planned = _planned_in(self._changes, _location(folder, prefix))
        finally:
            os.close(folder)
        try:
            names = set(super().names(path))
        except FileNotFoundError:
            if not planned:
                raise
            names = set()
        names |= {name for name, change in planned.items() if change is not None}
        names -= {name for name, change in planned.items() if change is None}
        return sorted(names, key=os.fsencode)

    def own_links(self, directory: int) -> dict[str, str]:
        """Return the links that would be new in a directory, and their targets."""
        planned = _planned_in(self._changes, _location(directory, ""))
        return {name: change for name, change in planned.items() if isinstance(change, str)}

    def put(self, path: str, new: bytes) -> bool:
        """Report a file that would be written."""
        return self._change(path, new, f"write {self._prefix}{path}")

    def link(self, path: str, text: str, *, kept: os.stat_result | None = None) -> bool:
        """Report a link that would be created."""
        return not self.leads_to(path, kept) and self._change(
            path, text, f"link {self._prefix}{path} to {text}"
        )

    def remove(self, path: str) -> bool:
        """Report a file that would be removed."""
        return self.has(path) and self._change(path, None, f"remove {self._prefix}{path}")

    def _change(self, path: str, change: Change, description: str) -> bool:
        try:
            folder, rest = self._reach(path, stay=True)
            try:
                location = _location(folder, rest)
                if location not in self._changes:
                    if _is_done(folder, rest, change):
                        return False
                    self._raise_error_of(path, folder, rest, change)
                elif self._changes[location] == change:
                    return False
            finally:
                os.close(folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        self.report_change(description)
        self._changes[location] = change
        return True

    def _is_planned_directory(self, path: str) -> bool:
        """Whether a change would create the directory: missing parents of a file are created."""
        try:
            folder, prefix = self._reach(f"{path}/", stay=False)
        except OSError:
            return False
        try:
            planned = _planned_in(self._changes, _location(folder, prefix))
        finally:
            os.close(folder)
        return bool(prefix) and bool(planned)

    def _reach(self, path: str, *, stay: bool) -> tuple[int, str]:
        """Return the last existing directory on `path`, and the rest of the path.

        Planned links are followed; planned removals of parents have no effect.
        """
        for _ in range(MAX_LINKS + 1):
            folder, rest = self._existing(path, stay=stay)
            try:
                redirected = self._redirected(path, folder, rest)
                if redirected is None:
                    return os.dup(folder), rest
            finally:
                os.close(folder)
            path = redirected
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _existing(self, path: str, *, stay: bool) -> tuple[int, str]:
        folder, _, rest = path.rpartition("/")
        while True:
            try:
                # The slash asks for a directory.
                return self._resolve(self.descriptor, f"{folder}/", stay), rest
            except FileNotFoundError:
                folder, _, name = folder.rpartition("/")
                rest = f"{name}/{rest}"

    def _redirected(self, path: str, folder: int, rest: str) -> str | None:
        """Return the path with a planned link or a `..` resolved; None if it has neither."""
        names = rest.split("/")
        for count in range(1, len(names)):
            prefix = "/".join(names[:count])
            change = self._changes.get(_location(folder, prefix))
            if isinstance(change, bytes):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if change is not None:
                suffix = rest[len(prefix) :]
                return _joined(path[: len(path) - len(suffix)], change) + suffix
        if ".." in names[1:]:
            # A planned directory is not a link, so `..` leads to its parent.
            up = names.index("..", 1)
            return path[: len(path) - len(rest)] + "/".join(names[: up - 1] + names[up + 1 :])
        return None

    def _raise_error_of(self, path: str, folder: int, rest: str, change: Change) -> None:
        """Raise the error that the change would raise."""
        if os.fstatvfs(self._writable).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if self._is_planned_directory(path):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        first = rest.partition("/")[0]
        try:
            status = os.stat(first, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if first != rest:
            # The parent is a link to nowhere.
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_directory and not isinstance(change, str):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISLNK(status.st_mode):
            try:
                os.close(self.find_within(folder, rest))
            except OSError as error:
                # A mount point cannot be replaced.
                number = errno.EBUSY if error.errno == errno.EXDEV else error.errno
                raise OSError(number, os.strerror(number or 0)) from None
        # A link replaces only an empty directory.
        if is_directory and self.names(path):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))


def _location(folder: int, rest: str) -> Location:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino, rest


def _joined(link: str, text: str) -> str:
    """Return the path that a link with this text leads to."""
    return text if text.startswith("/") else f"{link.rpartition('/')[0]}/{text}"


def _planned_in(changes: dict[Location, Change], directory: Location) -> dict[str, Change]:
    """Return the changes in one directory, by name."""
    device, inode, prefix = directory
    planned: dict[str, Change] = {}
    for (other_device, other_inode, rest), change in changes.items():
        if (other_device, other_inode) == (device, inode) and rest.startswith(prefix):
            name, below, _ = rest[len(prefix) :].partition("/")
            # A directory stays when a file in it is removed.
            planned[name] = b"" if below else change
    return planned


def _is_done(folder: int, name: str, change: Change) -> bool:
    """Whether the file has the result of a change already."""
    if isinstance(change, bytes):
        return holds(folder, name, change)
    return change is not None and link_text(folder, name) == change


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("file")
    write_all(descriptor, content)
    return descriptor


def main() -> None:
    """Run the program; never returns."""
    del sys.argv[1]
    __main__.main(DryRunRootFs)
