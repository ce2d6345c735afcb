# SPDX-License-Identifier: Apache-2.0
"""Checks passwords of basic authentication against bcrypt hashes.

A hash takes 70 ms of CPU and more, so one thread computes one after the other, and results are
kept, as in exporter-toolkit. The results are kept under keyed hashes of the passwords.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import bcrypt

CACHE_SIZE = 100

WAITING_SIZE = 32
"""Passwords that wait to be checked; more are refused, or they would wait for minutes."""

LONGEST = 72
"""bcrypt reads no more bytes of a password; since 5.0 the library raises an error for more."""

UNKNOWN_USER = "$2b$10$BAUjM4xV88ZZYfBH8zhhzOjdDqI1.x5Md7V0e8WRzIKHF1h9LRz0."
"""Of no password that is kept: a user that does not exist takes as long as one that does."""


class Credentials(NamedTuple):
    """What a client says it is."""

    user: bytes
    password: bytes


def credentials(header: bytes) -> Credentials | None:
    """Return the user and the password of the header ``Authorization``; None if it has none."""
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return None
    return Credentials(user, password) if colon else None


class Passwords:
    """Checks passwords in a thread of its own, which starts with the first one."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._results: OrderedDict[bytes, bool] = OrderedDict()
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING_SIZE)
        self._thread: threading.Thread | None = None
        self._is_closing = False

    async def are_valid(self, given: Credentials, users: Mapping[str, str]) -> bool:
        """Whether a user exists and has this password; no if too many passwords wait."""
        name = given.user.decode("utf-8", "replace")
        # Compared with a hash in any case, so that the time does not tell which users exist.
        hashed = users.get(name, UNKNOWN_USER)
        key = self._key(given, hashed)
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key] and name in users
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def check() -> None:
            is_match = matches(given.password, hashed)
            # The server may have ended in the meantime.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_set, answer, is_match)

        try:
            self._waiting.put_nowait(check)
        except queue.Full:
            return False
        if self._thread is None:
            # A daemon: a hash of a high cost does not hold up the end of the program.
            self._thread = threading.Thread(target=self._work, name="passwords", daemon=True)
            self._thread.start()
        is_match = await answer
        self._results[key] = is_match
        if len(self._results) > CACHE_SIZE:
            self._results.popitem(last=False)
        return is_match and name in users

    def close(self) -> None:
        """End the thread after the password that it checks."""
        self._is_closing = True
        with suppress(queue.Full):
            self._waiting.put_nowait(None)

    def _key(self, given: Credentials, hashed: str) -> bytes:
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in (given.user, given.password, hashed.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _work(self) -> None:
        while (check := self._waiting.get()) is not None and not self._is_closing:
            check()


def _set(answer: asyncio.Future[bool], is_match: bool) -> None:
    if not answer.done():
        answer.set_result(is_match)


def matches(password: bytes, hashed: str) -> bool:
    """Whether a bcrypt hash is that of a password."""
    try:
        return bcrypt.checkpw(password[:LONGEST], hashed.encode())
    except ValueError:
        # A password with a zero byte: releases before 4.1 refuse it.
        return False
