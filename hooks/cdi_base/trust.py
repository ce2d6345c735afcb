# SPDX-License-Identifier: Apache-2.0
"""Files that decide what root does: read only where nobody else could have written them."""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import process

MAX_LINKS = 40
"""As the kernel has it (`MAXSYMLINKS`)."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def open_directory(path: str) -> int:
    """A descriptor of a directory that only root, or the caller, can change.

    Raises:
        OSError: it is not there; PermissionError: others can change it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return _checked(descriptor, path)


def read(name: str, directory: int, limit: int) -> bytes:
    """The content of a regular file that only root, or the caller, can change.

    Raises:
        OSError: it is not there, is no such file (PermissionError), or is larger (EFBIG).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = _checked(os.open(name, flags, dir_fd=directory), name, stat.S_IFREG)
    try:
        found = content(descriptor, limit)
    finally:
        os.close(descriptor)
    if len(found) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
    return found


def content(descriptor: int, limit: int) -> bytes:
    """What an open file holds, or its first `limit` + 1 bytes."""
    found = bytearray()
    while piece := os.read(descriptor, min(1 << 20, limit + 1 - len(found))):
        found += piece
    return bytes(found)


def distrust(status: os.stat_result) -> str | None:
    """Why others than root, or the caller, could change it; None: they cannot."""
    if not process.may_be_trusted(status.st_uid):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & _OTHERS_WRITE:
        return f"can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _checked(descriptor: int, name: str, kind: int = stat.S_IFDIR) -> int:
    status = os.fstat(descriptor)
    is_other = stat.S_IFMT(status.st_mode) != kind
    reason = "is not a regular file" if is_other else distrust(status)
    if reason is None:
        return descriptor
    os.close(descriptor)
    raise PermissionError(errno.EPERM, reason, name)


def fault(path: str) -> str | None:
    """Why somebody other than root could change what a path leads to; None where nobody can.

    Each directory and link on the way is looked at. A directory that others may write to will do if
    it has the sticky bit, for what is root's they cannot replace.

    Raises:
        OSError: the way cannot be walked.
    """
    place, left, links = "", _parts(path), 0
    while True:
        status = os.lstat(place or "/")
        if status.st_uid != 0:
            return f"{place or '/'} belongs to user {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place)
            target = os.readlink(place)
            left = _parts(target) + left
            place = "" if target.startswith("/") else place.rpartition("/")[0]
        elif status.st_mode & _OTHERS_WRITE and not (left and status.st_mode & stat.S_ISVTX):
            return f"{place or '/'} can be written to by others"
        while left and left[0] == "..":
            place = place.rpartition("/")[0]
            del left[0]
        if not left:
            return None
        place = f"{place}/{left.pop(0)}"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
