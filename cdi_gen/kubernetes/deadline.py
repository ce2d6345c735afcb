# SPDX-License-Identifier: Apache-2.0
"""Ends the connections of a request at a moment, whatever the server sends until then.

The limits of urllib3 are for a single read. A server, or a proxy before it, that sends a byte a
second reaches none of them, neither in the TLS handshake nor in the headers or the content.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_current = threading.local()


class Deadline:
    """A moment at which connections end.

    Args:
        seconds: the time until the moment, for messages.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._has_passed = False
        self._sockets: list[socket.socket] = []

    @property
    def has_passed(self) -> bool:
        """Whether connections were ended."""
        return self._has_passed

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Have the connections that this thread begins or uses in the block end at the moment."""
        before = getattr(_current, "deadline", None)
        _current.deadline = self
        try:
            yield
        finally:
            _current.deadline = before

    def add(self, connection: socket.socket) -> None:
        """End this connection too."""
        # Of its own: TLS takes the descriptor from the socket.
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            self._sockets.append(duplicate)
            if self._has_passed:
                _shut_down(duplicate)

    def end(self) -> None:
        """End the connections, and those that will be added."""
        with self._lock:
            self._has_passed = True
            for connection in self._sockets:
                _shut_down(connection)

    def close(self) -> None:
        """Let the connections go on without a deadline."""
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


@contextmanager
def deadline_after(seconds: float) -> Iterator[Deadline]:
    """Yield a deadline for the connections of a block; it has no effect after the block."""
    deadline = Deadline(seconds)
    timer = threading.Timer(seconds, deadline.end)
    timer.daemon = True
    with suppress(RuntimeError):  # the limit of threads: urllib3 has limits of its own
        timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()
        deadline.close()


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # the server has ended it
        connection.shutdown(socket.SHUT_RDWR)


def _follow(connection: socket.socket | None) -> None:
    deadline: Deadline | None = getattr(_current, "deadline", None)
    if deadline is not None and connection is not None:
        deadline.add(connection)


class _HttpConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _follow(connection)
        return connection

    def request(self, *args: Any, **options: Any) -> None:
        _follow(self.sock)  # of an earlier request
        super().request(*args, **options)


class _HttpsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _follow(connection)
        return connection

    def request(self, *args: Any, **options: Any) -> None:
        _follow(self.sock)
        super().request(*args, **options)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def with_deadlines(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Return the manager, whose new connections obey `Deadline.connecting`."""
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager
