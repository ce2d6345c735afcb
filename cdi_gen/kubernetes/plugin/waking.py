# SPDX-License-Identifier: Apache-2.0
"""Waits until another thread, a signal or a change of a directory ends the wait.

A kubelet that starts deletes the sockets in its directory and creates its own. The earlier the
plugin registers again, the fewer pods the kubelet refuses; and a process that is woken needs no
processor time while nothing happens. Python has no inotify of its own.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import select
import socket
import struct
import time

from cdi_base.findings import Finding

POLL_SECONDS = 0.5
"""The longest wait if the directory cannot be watched."""

SETTLE_SECONDS = 0.05
"""The time between a change and the end of the wait: a socket is created before it is listened on,
and a kubelet deletes several sockets."""

_IN_MOVED, _IN_CREATE, _IN_DELETE = 0x40 | 0x80, 0x100, 0x200
_IN_ONLYDIR, _IN_IGNORED = 0x01000000, 0x8000
_EVENT = struct.Struct("iIII")
_FIXES = {
    errno.EMFILE: "Raise fs.inotify.max_user_instances of the node: all of them are used.",
    errno.ENOSPC: "Raise fs.inotify.max_user_watches of the node: all of them are used.",
}
"""What to do about an error of inotify."""
_BYTES = 1 << 16


class Waker:
    """Ends the waits of one thread.

    Args:
        directory: the directory whose entries are watched. It may not exist yet.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._read_end, self._write_end = socket.socketpair()
        for end in (self._read_end, self._write_end):
            end.setblocking(False)
        self._watch: io.FileIO | None = None
        self._watched: tuple[int, int] | None = None
        """The identity of the directory that is watched."""
        self._error: OSError | None = None

    def findings(self) -> tuple[Finding, ...]:
        """Return the finding that the directory cannot be watched, and why."""
        if self._error is None:
            return ()
        message = (
            f"{self._directory} cannot be watched: {self._error.strerror}; the plugin looks at it "
            f"every {POLL_SECONDS} s"
        )
        fix = _FIXES.get(self._error.errno or 0, "")
        return (Finding("CDG-N115", "warning", message, subject=self._directory, fix=fix),)

    def wake(self) -> None:
        """End the wait, or the next one. It may be called at any time, also by a signal handler."""
        try:
            self._write_end.send(b"\0")
        except OSError:
            return  # the buffer is full, so the wait will end; or nobody waits any more

    def wait(self, seconds: float) -> None:
        """Wait so long, until `wake` is called, or until the entries of the directory change."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        watch = self._follow()
        if watch is None:
            seconds = min(seconds, POLL_SECONDS)
        else:
            poll.register(watch, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        if self._read_end.fileno() in ready:
            self._read_end.recv(_BYTES)
        if watch is not None and watch.fileno() in ready:
            time.sleep(SETTLE_SECONDS)
            if _has_ended(watch.read(_BYTES) or b""):
                self._watched = None

    def close(self) -> None:
        """Close what is open; `wait` may not be called afterwards."""
        for end in (self._read_end, self._write_end, self._watch):
            if end is not None:
                end.close()

    def _follow(self) -> io.FileIO | None:
        """Return what becomes readable with a change; None if the directory cannot be watched."""
        try:
            status = os.stat(self._directory)
        except OSError:
            self._error = None
            return None
        directory = (status.st_dev, status.st_ino)
        if directory != self._watched:
            if self._watch is not None:
                self._watch.close()
            self._watch = self._watched = self._error = None
            try:
                self._watch = _watch(self._directory)
                self._watched = directory
            except OSError as error:
                self._error = error
        return self._watch


def _has_ended(events: bytes) -> bool:
    """Whether the directory is gone; a new one may have the identity of the old one."""
    offset = 0
    while offset < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, offset)
        if mask & _IN_IGNORED:
            return True
        offset += _EVENT.size + length
    return False


def _watch(directory: str) -> io.FileIO:
    """Return the changes of a directory by inotify.

    Raises:
        OSError: it cannot be watched; perhaps a limit is reached.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise _error(directory)
    mask = _IN_MOVED | _IN_CREATE | _IN_DELETE | _IN_ONLYDIR
    if libc.inotify_add_watch(descriptor, os.fsencode(directory), mask) < 0:
        error = _error(directory)
        os.close(descriptor)
        raise error
    return io.FileIO(descriptor)


def _error(directory: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), directory)
