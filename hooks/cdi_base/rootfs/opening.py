# SPDX-License-Identifier: Apache-2.0
"""Opens what an `O_PATH` descriptor stands for; the only module that opens a container's files.

Only regular files and directories of file systems that hold data are opened. Pipes and devices are
never opened, nor is anything of procfs, sysfs and the like: reading /proc/kmsg, for example, takes
lines out of the host's kernel log. FUSE and network file systems hold data: a container's root may
be one, and so may a volume with libraries. Only the operator can mount one; if it does not answer,
the hook waits until the engine's time limit.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import syscalls
from cdi_base.files import READ, NotRegularError, content, same_file


def open_file(place: int) -> int:
    """Open what is open as `O_PATH` to read it, if it is a regular file.

    Raises:
        OSError: EINVAL if it is something else, or of the kernel's.
    """
    first = os.fstat(place)
    if not stat.S_ISREG(first.st_mode):
        raise NotRegularError("")
    _refuse_the_kernels(place)
    # Opening a name again could meet a pipe or a device; opening the descriptor again cannot.
    again = os.open(f"/proc/self/fd/{place}", READ)
    if not same_file(first, os.fstat(again)):
        os.close(again)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return again


def open_directory(place: int) -> int:
    """The same for a directory, to list it."""
    _refuse_the_kernels(place)
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)


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
