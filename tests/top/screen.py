# SPDX-License-Identifier: Apache-2.0
"""A program in a pseudo-terminal, and what a user would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

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
        self.master, terminal = pty.openpty()
        self.resize(columns, rows)
        self.first_modes = self.modes()
        self._process = subprocess.Popen(
            ("setsid", "--ctty", *words),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=dict(environment),
            cwd=cwd,
        )
        os.close(terminal)

    @property
    def pid(self) -> int:
        """The number of the program's process."""
        return self._process.pid

    def __enter__(self) -> Session:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
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
        self.wait(lambda: self._process.poll() is not None, "the end of the program")
        self._read(0)
        return int(self._process.returncode)

    def modes(self) -> list[object]:
        """Return the modes of the terminal."""
        return termios.tcgetattr(self.master)

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
