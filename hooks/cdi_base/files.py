# SPDX-License-Identifier: Apache-2.0
"""Reads regular files within bounds.

Every file that somebody else may have made is read by these functions. A pipe or a device is never
waited for: it is opened without blocking, and refused. A file is read up to a limit, however large
it says it is, and however fast it grows.
"""

from __future__ import annotations

import errno
import os
import stat

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How a file is opened that may turn out to be a pipe or a terminal."""


class NotRegularError(OSError):
    """A directory, a pipe, a socket or a device, where a regular file has to be."""

    def __init__(self, path: str, mode: int = 0) -> None:
        if stat.S_ISDIR(mode):
            super().__init__(errno.EISDIR, os.strerror(errno.EISDIR), path)
        else:
            super().__init__(errno.EINVAL, "not a regular file", path)


def open_regular(path: str, *, directory: int | None = None, follow: bool = False) -> int:
    """Return a descriptor of a regular file, to read it.

    Args:
        path: of the file.
        directory: a descriptor of the directory that a relative path begins in.
        follow: whether the file may be a symbolic link.

    Raises:
        NotRegularError: it is another kind of file.
        OSError: it cannot be opened; ELOOP: it is a symbolic link.
    """
    descriptor = os.open(path, READ if follow else READ | os.O_NOFOLLOW, dir_fd=directory)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise NotRegularError(path, mode)


def beginning(descriptor: int, most: int) -> bytes:
    """Return the content of an open file, or its first `most` bytes."""
    content = bytearray()
    while len(content) < most:
        piece = os.read(descriptor, min(1 << 20, most - len(content)))
        if not piece:
            break
        content += piece
    return bytes(content)


def content(descriptor: int, limit: int) -> bytes:
    """Return the content of an open file.

    Raises:
        OSError: EFBIG if it is larger than `limit` bytes.
    """
    if os.fstat(descriptor).st_size <= limit:
        whole = beginning(descriptor, limit + 1)
        if len(whole) <= limit:
            return whole
    raise OSError(errno.EFBIG, f"larger than {limit} bytes")


def read(path: str, limit: int, *, directory: int | None = None, follow: bool = False) -> bytes:
    """Return the content of a regular file.

    Raises:
        NotRegularError: it is another kind of file.
        OSError: it cannot be opened or read; EFBIG if it is larger than `limit` bytes.
    """
    descriptor = open_regular(path, directory=directory, follow=follow)
    try:
        return content(descriptor, limit)
    finally:
        os.close(descriptor)


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are of the same file, whatever its names."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
