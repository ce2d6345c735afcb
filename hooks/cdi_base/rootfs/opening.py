# SPDX-License-Identifier: Apache-2.0
"""Opens the file of an `O_PATH` descriptor; the only module that opens a container's files.

Only regular files and directories of file systems that hold data are opened. Pipes and devices are
never opened, nor is anything of procfs, sysfs and the like: reading /proc/kmsg, for example, takes
lines out of the host's kernel log. FUSE and network file systems hold data: they may be the root of
a container or a volume with libraries. Only the administrator can mount them. If one does not
respond, the hook waits until the engine's time limit.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import syscalls
from cdi_base.files import READ, NotRegularError, content, same_file

_devices_with_data: set[int] = set()
"""Devices, by `st_dev`, whose file system is not one of the kernel's, as was found before."""


def open_file(path_descriptor: int) -> int:
    """Open the file of an `O_PATH` descriptor for reading, if it is a regular file.

    Raises:
        OSError: EINVAL if it is another kind of file, or in a file system of the kernel.
    """
    status = os.fstat(path_descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError("")
    if status.st_dev not in _devices_with_data:
        _reject_kernel_file_system(path_descriptor)
        _devices_with_data.add(status.st_dev)
    # The name could now lead to a pipe or a device; the descriptor cannot.
    descriptor = os.open(f"/proc/self/fd/{path_descriptor}", READ)
    if not same_file(status, os.fstat(descriptor)):
        os.close(descriptor)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return descriptor


def open_directory(path_descriptor: int) -> int:
    """Open the directory of an `O_PATH` descriptor, to list it."""
    _reject_kernel_file_system(path_descriptor)
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=path_descriptor)


def holds(parent: int, name: str, expected: bytes) -> bool:
    """Whether the name is a regular file, not a link, with exactly this content."""
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
        if error.errno == errno.EINVAL:  # a file of the kernel, mounted here
            return False
        raise
    finally:
        os.close(descriptor)


def link_text(parent: int, name: str) -> str | None:
    """Return the target of a symbolic link; None if the name is not one."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EINVAL}:
            return None
        raise


def _reject_kernel_file_system(descriptor: int) -> None:
    if syscalls.file_system(descriptor) in syscalls.KERNEL_FILE_SYSTEMS:
        raise OSError(errno.EINVAL, "in a file system of the kernel; not opened")
