# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-hook --dry-run NAME [OPTION]...`: what the steps would do, in their order, on stdout.

The steps are the real ones; the root they work on keeps every change in memory and shows it to the
steps that come after.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

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
    """What there would be: a file's content, a link's text, or nothing any more."""

    Place = tuple[int, int, str]
    """A directory that is there, by device and inode, and a path from there: one for all names."""


class Rehearsal(RootFs):
    """A container's root that is only read, and what would have become of it so far."""

    def __init__(
        self, descriptor: int, resolver: Resolver | None = None, *, tell: Tell | None = None
    ) -> None:
        super().__init__(descriptor, resolver, tell=tell)
        self._changes: dict[Place, Change] = {}

    def rehearses(self, change: str) -> bool:
        """Print the change; it is not to be made."""
        os.write(1, f"{change}\n".encode("utf-8", "backslashreplace"))
        return True

    def find(self, path: str, *, stay: bool = False) -> int:
        """What `path` would lead to; a file that is not there yet is one in memory."""
        ahead = path
        for _ in range(MAX_LINKS + 1):
            try:
                folder, rest = self._reach(ahead, stay=stay)
                try:
                    place = _place(folder, rest)
                    known = place in self._changes
                    change = self._changes[place] if known else link_text(folder, rest)
                    if change is None and not known:
                        return self._resolve(folder, rest, stay)
                finally:
                    os.close(folder)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None
            if change is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if isinstance(change, bytes):
                return _in_memory(change)
            ahead = _joined(ahead, change)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def status(self, path: str) -> os.stat_result | None:
        """What `path` would lead to; a directory that is not there yet has nothing but its kind."""
        found = super().status(path)
        if found is None and self._is_made_folder(path):
            return os.stat_result((stat.S_IFDIR | 0o755, *[0] * 9))
        return found

    def has(self, path: str) -> bool:
        """Whether there would be anything at `path`."""
        try:
            folder, rest = self._reach(path, stay=False)
        except OSError:
            return False
        try:
            place = _place(folder, rest)
            if place in self._changes:
                return self._changes[place] is not None
            os.stat(rest, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return self._is_made_folder(path)
        finally:
            os.close(folder)
        return True

    def names(self, path: str) -> list[str]:
        """The names that would be in a directory."""
        folder, prefix = self._reach(f"{path}/", stay=False)
        try:
            made = _made_in(self._changes, _place(folder, prefix))
        finally:
            os.close(folder)
        try:
            found = set(super().names(path))
        except FileNotFoundError:
            if not made:
                raise
            found = set()
        found |= {name for name, change in made.items() if change is not None}
        found -= {name for name, change in made.items() if change is None}
        return sorted(found, key=os.fsencode)

    def links_to_be(self, directory: int) -> dict[str, str]:
        """The links that would be new in a directory, and what they would say."""
        made = _made_in(self._changes, _place(directory, ""))
        return {name: change for name, change in made.items() if isinstance(change, str)}

    def put(self, path: str, new: bytes) -> bool:
        """Tell of a file that would be written."""
        return self._change(path, new, f"write {self._at}{path}")

    def link(self, path: str, text: str) -> bool:
        """Tell of a link that would be made."""
        return self._change(path, text, f"link {self._at}{path} to {text}")

    def remove(self, path: str) -> bool:
        """Tell of a file that would be taken away."""
        return self.has(path) and self._change(path, None, f"remove {self._at}{path}")

    def _change(self, path: str, change: Change, told: str) -> bool:
        try:
            folder, rest = self._reach(path, stay=True)
            try:
                place = _place(folder, rest)
                if place not in self._changes:
                    if _is_so(folder, rest, change):
                        return False
                    self._refuse(path, folder, rest, change)
                elif self._changes[place] == change:
                    return False
            finally:
                os.close(folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        self.rehearses(told)
        self._changes[place] = change
        return True

    def _is_made_folder(self, path: str) -> bool:
        """Whether a change makes it: a folder that is missing is made for what comes into it."""
        try:
            folder, prefix = self._reach(f"{path}/", stay=False)
        except OSError:
            return False
        try:
            made = _made_in(self._changes, _place(folder, prefix))
        finally:
            os.close(folder)
        return bool(prefix) and bool(made)

    def _reach(self, path: str, *, stay: bool) -> tuple[int, str]:
        """The last directory on the way to `path` that is there, and the way on from it.

        Links that would be made are followed; what would be removed still is in the way.
        """
        for _ in range(MAX_LINKS + 1):
            folder, rest = self._there(path, stay=stay)
            try:
                turned = self._turned(path, folder, rest)
                if turned is None:
                    return os.dup(folder), rest
            finally:
                os.close(folder)
            path = turned
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _there(self, path: str, *, stay: bool) -> tuple[int, str]:
        folder, _, rest = path.rpartition("/")
        while True:
            try:
                # The slash asks for a directory.
                return self._resolve(self.descriptor, f"{folder}/", stay), rest
            except FileNotFoundError:
                folder, _, name = folder.rpartition("/")
                rest = f"{name}/{rest}"

    def _turned(self, path: str, folder: int, rest: str) -> str | None:
        """Another path to the same, without a link or a `..` that only changes explain; or None."""
        names = rest.split("/")
        for count in range(1, len(names)):
            way = "/".join(names[:count])
            change = self._changes.get(_place(folder, way))
            if isinstance(change, bytes):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if change is not None:
                onward = rest[len(way) :]
                return _joined(path[: len(path) - len(onward)], change) + onward
        if ".." in names[1:]:
            # Out of a folder that is not there yet: a plain one.
            up = names.index("..", 1)
            return path[: len(path) - len(rest)] + "/".join(names[: up - 1] + names[up + 1 :])
        return None

    def _refuse(self, path: str, folder: int, rest: str, change: Change) -> None:
        """Raise what the change would."""
        if os.fstatvfs(self._writable).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if self._is_made_folder(path):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        first = rest.partition("/")[0]
        try:
            status = os.stat(first, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if first != rest:
            # A link to nowhere, in the place of a directory.
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_directory and not isinstance(change, str):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISLNK(status.st_mode):
            try:
                os.close(self.find_within(folder, rest))
            except OSError as error:
                # What is a mount itself cannot be replaced.
                number = errno.EBUSY if error.errno == errno.EXDEV else error.errno
                raise OSError(number, os.strerror(number or 0)) from None
        # A link takes the place of a directory that is empty.
        if is_directory and self.names(path):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))


def _place(folder: int, rest: str) -> Place:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino, rest


def _joined(link: str, text: str) -> str:
    """Where a link leads that says `text`."""
    return text if text.startswith("/") else f"{link.rpartition('/')[0]}/{text}"


def _made_in(changes: dict[Place, Change], directory: Place) -> dict[str, Change]:
    """Those of the changes that are in one directory, by name."""
    device, inode, prefix = directory
    found: dict[str, Change] = {}
    for (its_device, its_inode, rest), change in changes.items():
        if (its_device, its_inode) == (device, inode) and rest.startswith(prefix):
            name, below, _ = rest[len(prefix) :].partition("/")
            # What was removed out of it, its folder survives.
            found[name] = b"" if below else change
    return found


def _is_so(folder: int, name: str, change: Change) -> bool:
    """Whether the name is already what a change would make it."""
    if isinstance(change, bytes):
        return holds(folder, name, change)
    return change is not None and link_text(folder, name) == change


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("file")
    write_all(descriptor, content)
    return descriptor


def main() -> None:
    """Run as a program; never returns."""
    del sys.argv[1]
    __main__.main(Rehearsal)
