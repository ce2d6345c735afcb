# SPDX-License-Identifier: Apache-2.0
"""Waits until another thread, a signal, a change of a directory or another source ends the wait.

A process that is woken reacts at once, and needs no processor time while nothing happens. A kubelet
that starts deletes the sockets in its directory and creates its own: the earlier the device plugin
registers again, the fewer pods the kubelet refuses. Python has no inotify of its own.
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
from collections.abc import Sequence
from typing import Protocol

from cdi_base.findings import Finding

POLL_SECONDS = 0.5
"""The longest wait if a directory cannot be watched."""

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


class Source(Protocol):
    """Something with a descriptor that becomes readable."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def read(self) -> bool:
        """Read what there is; return whether it ends the wait."""

    def close(self) -> None:
        """Close the descriptor."""


class Waker:
    """Ends the waits of one thread.

    Args:
        directories: the directories whose entries are watched. They may not exist yet.
        sources: further sources, which `close` closes.
        poll_seconds: the longest wait if a directory cannot be watched.
    """

    def __init__(
        self,
        *directories: str,
        sources: Sequence[Source] = (),
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._directories = [_Directory(path) for path in directories]
        self._sources = sources
        self._poll_seconds = poll_seconds
        self._read_end, self._write_end = socket.socketpair()
        for end in (self._read_end, self._write_end):
            end.setblocking(False)

    def findings(self) -> tuple[Finding, ...]:
        """Return which directories cannot be watched, and why."""
        return tuple(
            _unwatched(directory.path, directory.error, self._poll_seconds)
            for directory in self._directories
            if directory.error is not None
        )

    def wake(self) -> None:
        """End the wait, or the next one. It may be called at any time, also by a signal handler."""
        try:
            self._write_end.send(b"\0")
        except OSError:
            return  # the buffer is full, so the wait will end; or nobody waits any more

    def wait(self, seconds: float) -> None:
        """Wait so long, until `wake` is called, or until a directory or a source changes."""
        deadline = time.monotonic() + seconds
        while not self._wait_once(deadline) and time.monotonic() < deadline:
            pass

    def close(self) -> None:
        """Close what is open; `wait` may not be called afterwards."""
        for end in (self._read_end, self._write_end):
            end.close()
        for directory in self._directories:
            directory.close()
        for source in self._sources:
            source.close()

    def _wait_once(self, deadline: float) -> bool:
        """Wait for the next event; return whether it ends the wait."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        limit = deadline
        watched = [directory for directory in self._directories if directory.follow()]
        if len(watched) < len(self._directories):
            limit = min(limit, time.monotonic() + self._poll_seconds)
        descriptors = [directory.fileno() for directory in watched]
        for descriptor in (*descriptors, *(source.fileno() for source in self._sources)):
            poll.register(descriptor, select.POLLIN)
        milliseconds = max(0.0, limit - time.monotonic()) * 1000
        ready = {descriptor for descriptor, _ in poll.poll(milliseconds)}
        if not ready:
            return limit < deadline
        is_over = False
        if self._read_end.fileno() in ready:
            self._read_end.recv(_BYTES)
            is_over = True
        changed = [directory for directory in watched if directory.fileno() in ready]
        if changed:
            time.sleep(SETTLE_SECONDS)
            is_over = True
        for directory in changed:
            directory.read()
        for source in self._sources:
            if source.fileno() in ready and source.read():
                is_over = True
        return is_over


class _Directory:
    """A directory that is watched as soon as it exists, and again if it is replaced."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.error: OSError | None = None
        """Why the directory cannot be watched, although it exists."""
        self._watch: io.FileIO | None = None
        self._watched: tuple[int, int] | None = None
        """The identity of the directory that is watched."""

    def fileno(self) -> int:
        return -1 if self._watch is None else self._watch.fileno()

    def follow(self) -> bool:
        """Watch the directory that exists now; return whether it can be watched."""
        try:
            status = os.stat(self.path)
        except OSError:
            self.error = None
            return False
        directory = (status.st_dev, status.st_ino)
        if directory != self._watched:
            self.close()
            self._watched = self.error = None
            try:
                self._watch = _watch(self.path)
                self._watched = directory
            except OSError as error:
                self.error = error
        return self._watch is not None

    def read(self) -> None:
        """Read the changes, so that they end one wait."""
        if self._watch is not None and _has_ended(self._watch.read(_BYTES) or b""):
            self._watched = None

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def _has_ended(events: bytes) -> bool:
    """Whether the directory is gone; a new one may have the identity of the old one."""
    offset = 0
    while offset < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, offset)
        if mask & _IN_IGNORED:
            return True
        offset += _EVENT.size + length
    return False


def _unwatched(path: str, error: OSError, seconds: float) -> Finding:
    message = f"{path} cannot be watched: {error.strerror}; it is looked at every {seconds} s"
    fix = _FIXES.get(error.errno or 0, "")
    return Finding("CDG-N115", "warning", message, subject=path, fix=fix)


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
