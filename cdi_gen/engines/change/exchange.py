# SPDX-License-Identifier: Apache-2.0
"""Replaces or removes a file without losing the change of another process.

Between a check and a rename, a change of another process would be lost. So two names are exchanged
in one step: the old file is then whole under a name that no other process knows, and if it is not
the expected file, the names are exchanged back.
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
"""Bytes of a file that are compared; its size and times are compared too."""

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE, Linux 3.15

_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""What file systems say that cannot exchange names: NFS, and ZFS before 2.2."""

_TRIES = 100
"""How often a file is put back that another process writes to all the time."""


class ChangedError(Exception):
    """The file is not the expected one; it has been put back.

    `saved` is the name of what it was in between, where others have changed it twice.
    """

    def __init__(self, saved: str | None = None) -> None:
        super().__init__(saved)
        self.saved = saved


class Seen(NamedTuple):
    """What tells whether a file is still the one that it was, wherever it has been moved to."""

    device: int
    inode: int
    mode: int
    owner: int
    group: int
    modified: int
    content: bytes | None
    """A digest; None of what is no regular file."""


def seen(path: str) -> Seen:
    """A file as it is.

    Raises:
        OSError: it cannot be read.
    """
    status = os.lstat(path)
    content = None
    if stat.S_ISREG(status.st_mode):
        file = files.open_regular(path)
        try:
            content = hashlib.sha256(files.beginning(file, MAX_BYTES)).digest()
        finally:
            os.close(file)
    return Seen(
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        content,
    )


def put(new: str, path: str, expected: Seen) -> None:
    """Replace a file by the one at ``new``; the old one is then there. Or else change nothing.

    Where the file system cannot exchange names it is a rename: a change in the moment before is
    lost.

    Raises:
        ChangedError: the other is not as expected, or a process is writing to it.
        OSError: the file system refuses.
    """
    ours = seen(new)
    try:
        # Checked again: a process that reads the file between two exchanges would read ours.
        if _changed(path, expected):
            raise ChangedError
        _exchange(new, path)
    except FileNotFoundError:
        raise ChangedError from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        os.rename(new, path)
        return
    if _is(new, expected):
        return
    # Exchange until the file that comes out is the one that was put in: the newest one is back.
    put_in = ours
    for _ in range(_TRIES):
        theirs = seen(new)
        _exchange(new, path)
        if _is(new, put_in):
            break
        put_in = theirs
    if _is(new, ours):
        raise ChangedError
    saved = new.removesuffix(".tmp") + ".saved"
    os.rename(new, saved)
    raise ChangedError(saved)


def take(path: str, aside: str, expected: Seen) -> None:
    """Move a file to a name that no other process knows, or else leave it where it is.

    Raises:
        ChangedError: it is not as expected, or a process is writing to it.
        OSError: the file system refuses.
    """
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        raise ChangedError from None
    if _is(aside, expected):
        return
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:  # another process has made a new one in the meantime
        saved = aside.removesuffix(".tmp") + ".saved"
        os.rename(aside, saved)
        raise ChangedError(saved) from None
    os.unlink(aside)
    raise ChangedError


def _changed(path: str, expected: Seen) -> bool:
    """Whether a file is plainly not as expected, without reading it."""
    status = os.lstat(path)
    now = (status.st_dev, status.st_ino, status.st_mtime_ns)
    return now != (expected.device, expected.inode, expected.modified)


def _exchange(one: str, other: str) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:  # glibc before 2.28, musl before 1.2.6
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), one)
    if function(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), other)


def _is(path: str, expected: Seen) -> bool:
    """Whether a file is the expected one, and no process has it open for writing."""
    with _lease(path) as at_rest:
        return at_rest and seen(path) == expected


@contextmanager
def _lease(path: str) -> Iterator[bool]:
    """A lease on a file, which the kernel refuses while a process has it open for writing.

    For a name that no other process knows: a process that writes to the file opened it before the
    file got that name. On a file system without leases, the file is assumed to be at rest.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path, flags)
    except OSError:
        yield True  # no file that could be written to
        return
    # The kernel sends SIGIO if a process opens the file all the same; that would end this process.
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
