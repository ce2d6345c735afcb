# SPDX-License-Identifier: Apache-2.0
"""A program in a pseudo-terminal, and what a user would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import pyte

PATIENCE = 60
"""Seconds in which a program on a busy machine shows what it should."""


class Session:
    """A program in a terminal of its own; a context manager that ends it."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        columns: int = 120,
        rows: int = 40,
        environment: Mapping[str, str],
        cwd: str = "/",
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.status: int | None = None
        """How the program ended, as `os.waitstatus_to_exitcode` says."""
        begin, go = os.pipe()
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                os.read(begin, 1)  # the window has its size
                os.chdir(cwd)
                os.execve(words[0], [*words], dict(environment))
            finally:
                os._exit(127)
        self.resize(columns, rows)
        self.first_modes = self.modes()
        os.write(go, b"x")
        os.close(begin)
        os.close(go)

    def __enter__(self) -> Session:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window."""
        self.screen.resize(rows, columns)
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    def lines(self) -> list[str]:
        """Return the text of the screen."""
        return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        """Return the text of the screen in one piece."""
        return "\n".join(self.lines())

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Follow the program until the condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"{what}\n{self.text()}"
            self._read(0.1)

    def wait_for(self, text: str) -> None:
        """Follow the program until the screen has a text."""
        self.wait(lambda: text in self.text(), f"{text!r} on the screen")

    def wait_without(self, text: str) -> None:
        """Follow the program until the screen has a text no more."""
        self.wait(lambda: text not in self.text(), f"{text!r} not on the screen")

    def follow(self, seconds: float) -> None:
        """Follow the program for a time."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end, "the time")

    def wait_for_end(self) -> int:
        """Follow the program to its end; return its exit code, or minus the signal."""
        self.wait(self._has_ended, "the end of the program")
        assert self.status is not None
        self._read(0)
        return self.status

    def modes(self) -> list[object]:
        """Return the modes of the terminal."""
        return termios.tcgetattr(self.master)

    def _has_ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def _read(self, seconds: float) -> None:
        while select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:  # the program has closed its end
                time.sleep(0.01)
                return
            self.written += data
            self._stream.feed(data)
            seconds = 0
