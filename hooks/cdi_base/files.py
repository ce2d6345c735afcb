# SPDX-License-Identifier: Apache-2.0
"""To open what an `O_PATH` descriptor has found; here alone are a container's files opened to read.

Only regular files and directories of file systems that hold data. Pipes and devices are never
opened, nor is anything of procfs, sysfs and their like: whoever reads /proc/kmsg takes the host's
kernel log away. FUSE and network file systems hold data: a container's root may be one, and so may
a volume with libraries. Only the operator can mount one; if it does not answer, the hook waits
until the engine's time limit.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import syscalls


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are of the same file, whatever its names."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def open_file(place: int) -> int:
    """Open what is open as `O_PATH` to read it, if it is a regular file.

    Raises:
        OSError: EINVAL if it is something else, or of the kernel's.
    """
    first = os.fstat(place)
    if not stat.S_ISREG(first.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    _refuse_the_kernels(place)
    # Opening a name again could meet a pipe or a device; opening the descriptor again cannot.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    again = os.open(f"/proc/self/fd/{place}", flags)
    if not same_file(first, os.fstat(again)):
        os.close(again)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return again


def open_directory(place: int) -> int:
    """The same for a directory, to list it."""
    _refuse_the_kernels(place)
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)


def content(file: int, limit: int) -> bytes:
    """All of a regular file.

    Raises:
        OSError: EFBIG if it is larger than the limit.
    """
    found = bytearray()
    if os.fstat(file).st_size <= limit:
        while len(found) <= limit:
            piece = os.read(file, limit + 1 - len(found))
            if not piece:
                return bytes(found)
            found += piece
    raise OSError(errno.EFBIG, f"larger than {limit} bytes")


def holds(parent: int, name: str, expected: bytes) -> bool:
    """Whether the name is a regular file, not a link, of just this content."""
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return False
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != len(expected):
            return False
        file = open_file(descriptor)
        try:
            return content(file, len(expected)) == expected
        finally:
            os.close(file)
    except OSError as error:
        if error.errno == errno.EINVAL:  # the kernel's, mounted here
            return False
        raise
    finally:
        os.close(descriptor)


def link_text(parent: int, name: str) -> str | None:
    """What a symbolic link says; None if it is none."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EINVAL}:
            return None
        raise


def _refuse_the_kernels(place: int) -> None:
    if syscalls.file_system(place) in syscalls.KERNEL_FILE_SYSTEMS:
        raise OSError(errno.EINVAL, "in a file system of the kernel's: not opened")
