# SPDX-License-Identifier: Apache-2.0
"""Reads a directory tree through one descriptor, whatever links are in it.

The trees are stores of images and root file systems, which users other than root may own. A link
that leads out of the tree resolves inside it, pipes and devices are never opened, and every read
has a limit.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import files
from cdi_base.rootfs import opening, resolve
from cdi_gen.images.errors import ImageError

MAX_NAMES = 200_000
"""The largest number of names of a directory that are read."""

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class Folder:
    """A directory tree. Paths begin at its root, with or without a slash."""

    def __init__(self, path: str, *, descriptor: int | None = None) -> None:
        """Open a directory of the host, and follow links on the way to it.

        Args:
            path: of the directory.
            descriptor: of the directory, if it is open; it is taken over.

        Raises:
            OSError: it cannot be opened, or is not a directory.
        """
        self.path = path
        if descriptor is None:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._descriptor = descriptor
        self._resolve = resolve.choose(descriptor)

    def below(self, path: str) -> Folder:
        """Return a directory in the tree as a tree of its own.

        Raises:
            OSError: it is missing, or not a directory.
        """
        descriptor = self._resolve(self._descriptor, f"{path.strip('/')}/.", False)
        return Folder(f"{self.path.rstrip('/')}/{path.strip('/')}", descriptor=descriptor)

    def close(self) -> None:
        """Close the directory."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def status(self, path: str) -> os.stat_result | None:
        """Return the attributes of a name, not of what a link leads to; None if it is missing."""
        folder, _, name = path.strip("/").rpartition("/")
        parent = self._find(folder)
        if parent is None:
            return None
        try:
            return os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        finally:
            os.close(parent)

    def exists(self, path: str) -> bool:
        """Whether a path leads to something in the tree."""
        descriptor = self._find(path)
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def link_text(self, path: str) -> str | None:
        """Return the target of a symbolic link; None if the name is not one."""
        folder, _, name = path.strip("/").rpartition("/")
        parent = self._find(folder)
        if parent is None:
            return None
        try:
            return os.readlink(name, dir_fd=parent)
        except OSError as error:
            if error.errno in ABSENT | {errno.EINVAL}:
                return None
            raise
        finally:
            os.close(parent)

    def attribute(self, path: str, name: str) -> bytes | None:
        """Return an extended attribute of a directory; None if it does not have it."""
        descriptor = self._find(path)
        if descriptor is None:
            return None
        try:
            return os.getxattr(f"/proc/self/fd/{descriptor}", name)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def open(self, path: str) -> int:
        """Return a descriptor of a regular file.

        Raises:
            OSError: it is missing, cannot be opened, or is another kind of file.
        """
        descriptor = self._resolve(self._descriptor, path.strip("/") or ".", False)
        try:
            return opening.open_file(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: str, limit: int) -> bytes | None:
        """Return the content of a regular file; None if it is missing.

        Raises:
            ImageError: the user may not read it, or it is another kind of file, or too large.
        """
        try:
            descriptor = self.open(path)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise self.error(path, error) from None
        try:
            return files.content(descriptor, limit)
        except OSError as error:
            raise self.error(path, error) from None
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[os.DirEntry[str]]:
        """Return the entries of a directory, at most `MAX_NAMES`; none if it is missing.

        Raises:
            ImageError: the user may not read it.
        """
        descriptor = self._find(path)
        if descriptor is None:
            return []
        entries: list[os.DirEntry[str]] = []
        try:
            directory = opening.open_directory(descriptor)
            try:
                with os.scandir(directory) as scan:
                    for entry in scan:
                        entries.append(entry)
                        if len(entries) == MAX_NAMES:
                            break
                    for entry in entries:
                        if not (
                            entry.is_file(follow_symlinks=False)
                            or entry.is_dir(follow_symlinks=False)
                        ):
                            entry.stat(follow_symlinks=False)
            finally:
                os.close(directory)
        except OSError as error:
            if error.errno in ABSENT | {errno.EINVAL}:
                return []
            raise self.error(path, error) from None
        finally:
            os.close(descriptor)
        return entries

    def error(self, path: str, error: OSError) -> ImageError:
        """Return the error for a file that exists and cannot be read."""
        location = f"{self.path.rstrip('/')}/{path.strip('/')}"
        if error.errno in {errno.EACCES, errno.EPERM}:
            return ImageError(
                f"{location}: only its owner may read it",
                hint="run the command with sudo",
                subject=location,
            )
        return ImageError(f"{location}: {error.strerror}", subject=location)

    def _find(self, path: str) -> int | None:
        try:
            return self._resolve(self._descriptor, path.strip("/") or ".", False)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise self.error(path, error) from None


def is_plain(entry: os.DirEntry[str]) -> bool:
    """Whether a name is a file, a directory or a link."""
    return (
        entry.is_file(follow_symlinks=False)
        or entry.is_dir(follow_symlinks=False)
        or entry.is_symlink()
    )


def is_whiteout(status: os.stat_result) -> bool:
    """Whether a name is overlayfs's mark of a removed file: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
