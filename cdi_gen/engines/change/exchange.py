# SPDX-License-Identifier: Apache-2.0
"""Replaces or removes a file without losing the change of another process.

If a process changed the file between a check and a rename, that change would be lost. So two names
are exchanged in one step: afterwards the old file has a name that no other process knows, and if it
is not the expected file, the names are exchanged back.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from cdi_base import files

MAX_BYTES = 64 << 20
"""The part of a file that is compared, in bytes; size and times are compared too."""

_AT_FDCWD = -100
_EXCHANGE = 2  # RENAME_EXCHANGE, Linux 3.15

UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems that cannot exchange names: NFS, and ZFS before 2.2."""

_TRIES = 100
"""The number of tries to restore a file that another process writes to continuously."""


class ChangedError(Exception):
    """The file is not the expected one; it has been restored.

    `saved` is the name of a content in between, if other processes changed the file twice.
    """

    def __init__(self, saved: str | None = None) -> None:
        super().__init__(saved)
        self.saved = saved


class FileState(NamedTuple):
    """The attributes that identify a file and its content, under any name."""

    device: int
    inode: int
    mode: int
    owner: int
    group: int
    modified: int
    content: bytes | None
    """The digest of the content; None if it is not a regular file."""


def state_of(path: str) -> FileState:
    """The current state of a file.

    Raises:
        OSError: the file cannot be read.
    """
    status = os.lstat(path)
    content = None
    if stat.S_ISREG(status.st_mode):
        file = files.open_regular(path)
        try:
            content = hashlib.sha256(files.beginning(file, MAX_BYTES)).digest()
        finally:
            os.close(file)
    return FileState(
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        content,
    )


def put(new: str, path: str, expected: FileState) -> None:
    """Replace a file by the one at ``new``, which then has the old file; or change nothing.

    If the file system cannot exchange names, the file is renamed; then a change that another
    process makes between the check and the rename is lost.

    Raises:
        ChangedError: the old file is not as expected, or a process is writing to it.
        OSError: the file system refuses.
    """
    ours = state_of(new)
    try:
        # Checked before the exchange too: between two exchanges other processes would read ours.
        if _changed(path, expected):
            raise ChangedError
        exchange_names(new, path)
    except FileNotFoundError:
        raise ChangedError from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        os.rename(new, path)
        return
    if _matches(new, expected):
        return
    # Exchange until the file that comes out is the one that was put in: then the newest is back.
    put_in = ours
    for _ in range(_TRIES):
        theirs = state_of(new)
        exchange_names(new, path)
        if _matches(new, put_in):
            break
        put_in = theirs
    if _matches(new, ours):
        raise ChangedError
    saved = new.removesuffix(".tmp") + ".saved"
    os.rename(new, saved)
    raise ChangedError(saved)


def take(path: str, aside: str, expected: FileState) -> None:
    """Move a file to a name that no other process knows, or do not move it.

    Raises:
        ChangedError: the file is not as expected, or a process is writing to it.
        OSError: the file system refuses.
    """
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        raise ChangedError from None
    if _matches(aside, expected):
        return
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:  # another process has created a new file in the meantime
        saved = aside.removesuffix(".tmp") + ".saved"
        os.rename(aside, saved)
        raise ChangedError(saved) from None
    os.unlink(aside)
    raise ChangedError


def _changed(path: str, expected: FileState) -> bool:
    """Whether the attributes of a file differ from the expected ones; the file is not read."""
    status = os.lstat(path)
    now = (status.st_dev, status.st_ino, status.st_mtime_ns)
    return now != (expected.device, expected.inode, expected.modified)


def exchange_names(one: str, other: str) -> None:
    """Exchange the names of two files or directories in one step.

    Raises:
        OSError: one does not exist, or the file system cannot do it (`UNSUPPORTED`).
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:  # glibc before 2.28, musl before 1.2.6
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), one)
    if function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), other)


def _matches(path: str, expected: FileState) -> bool:
    """Whether a file is the expected one, and no process has it open for writing."""
    with _lease(path) as at_rest:
        return at_rest and state_of(path) == expected


@contextmanager
def _lease(path: str) -> Iterator[bool]:
    """A lease on a file, which the kernel refuses while a process has it open for writing.

    The name must be one that no other process knows: then a process that writes to the file has
    opened it under its old name. On a file system without leases, no such process is assumed.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path, flags)
    except OSError:
        yield True  # no file that could be written to
        return
    # The kernel sends SIGIO if a process opens the file anyway; that would end this process.
    before = None
    with suppress(ValueError):  # not the main thread
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield before is None or not _is_written_to(file)
    finally:
        os.close(file)
        if before is not None:
            signal.signal(signal.SIGIO, before)


def _is_written_to(file: int) -> bool:
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
