# SPDX-License-Identifier: Apache-2.0
"""The terminal, by curses: its colours, keys, size, and the state in which it is left."""

from __future__ import annotations

import curses
import os
import select
import signal
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from cdi_gen.top.lines import Line, Style

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_OTHERS = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
_ESCAPE_MILLISECONDS = 25
"""The time in which the rest of a key's escape sequence arrives."""
_DEFAULT = -1

_ATTRIBUTES = {
    Style.PLAIN: curses.A_NORMAL,
    Style.STRONG: curses.A_BOLD,
    Style.FAINT: curses.A_DIM,
    Style.HEAD: curses.A_UNDERLINE,
    Style.SELECTED: curses.A_REVERSE,
    Style.LOAD: curses.A_NORMAL,
    Style.MEMORY: curses.A_NORMAL,
    Style.ENGINE: curses.A_NORMAL,
    Style.NOTICE: curses.A_BOLD,
    Style.ALARM: curses.A_REVERSE | curses.A_BOLD,
}
"""Without colours."""

_COLOURS_256 = {
    Style.FAINT: (244, _DEFAULT),
    Style.HEAD: (231, 24),
    Style.SELECTED: (16, 80),
    Style.LOAD: (34, _DEFAULT),
    Style.MEMORY: (33, _DEFAULT),
    Style.ENGINE: (37, _DEFAULT),
    Style.NOTICE: (172, _DEFAULT),
    Style.ALARM: (160, _DEFAULT),
}
"""Text and background: on a dark as on a light background they can be read."""
_COLOURS_8 = {
    Style.HEAD: (curses.COLOR_WHITE, curses.COLOR_BLUE),
    Style.SELECTED: (curses.COLOR_BLACK, curses.COLOR_CYAN),
    Style.LOAD: (curses.COLOR_GREEN, _DEFAULT),
    Style.MEMORY: (curses.COLOR_CYAN, _DEFAULT),
    Style.ENGINE: (curses.COLOR_MAGENTA, _DEFAULT),
    Style.NOTICE: (curses.COLOR_YELLOW, _DEFAULT),
    Style.ALARM: (curses.COLOR_RED, _DEFAULT),
}
_STRONG = frozenset({Style.STRONG, Style.ALARM})

_KEYS = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right",
    curses.KEY_PPAGE: "page-up",
    curses.KEY_NPAGE: "page-down",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace",
    curses.KEY_BTAB: "tab",
    **{curses.KEY_F0 + number: f"f{number}" for number in range(1, 11)},
}
_CHARACTERS = {
    "\n": "enter",
    "\r": "enter",
    "\x1b": "escape",
    "\t": "tab",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x15": "ctrl-u",
}
_REDRAW = "\x0c"
"""Ctrl-L"""


class UnknownTerminalError(Exception):
    """The terminal's type is not in the database of terminals, or no screen (``dumb``)."""


class Terminal:
    """The terminal of standard output; a context manager that leaves it as it was.

    Args:
        has_colours: whether colours may be used.

    Raises:
        UnknownTerminalError: when it is entered.
    """

    def __init__(self, *, has_colours: bool) -> None:
        self.has_ended = False
        self.signal = 0
        """The signal that has ended the program; 0 if none, or Ctrl-C."""
        self._has_colours = has_colours
        self._is_suspended = self._is_continued = self._is_resized = False
        self._attributes = dict(_ATTRIBUTES)
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Terminal:  # noqa: PYI034 - typing.Self is of Python 3.11
        self._modes = termios.tcgetattr(sys.stdin.fileno())
        try:
            _look_up_type()
        except UnknownTerminalError:
            self._close_pipe()
            raise
        # Before curses, which then leaves them alone: its own handlers run in any thread.
        self._handlers = {
            number: signal.signal(number, self._note) for number in (*_ENDING, *_OTHERS)
        }
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def wake(self) -> None:
        """End the wait for keys; any thread may call it, also after the end."""
        with suppress(OSError):
            os.write(self._write_end, b"\0")

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        rows, columns = self._screen.getmaxyx()
        return columns, rows

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines."""
        self._screen.erase()
        for number, line in enumerate(lines):
            self._screen.move(number, 0)
            with suppress(curses.error):  # the cursor cannot go behind the last character
                for piece in line:
                    self._screen.addstr(piece.text, self._attributes[piece.style])
        self._screen.refresh()

    def keys(self, seconds: float) -> list[str]:
        """Wait so long, or until something happens; return the keys that were pressed."""
        poll = select.poll()
        poll.register(sys.stdin.fileno(), select.POLLIN)
        poll.register(self._read_end, select.POLLIN)
        events = dict(poll.poll(seconds * 1000))
        with suppress(BlockingIOError):
            os.read(self._read_end, 4096)
        keys = self._pressed()
        is_gone = events.get(sys.stdin.fileno(), 0) & (select.POLLHUP | select.POLLERR)
        self.has_ended = self.has_ended or bool(is_gone)
        if self._is_suspended:
            self._suspend()
        if self._is_continued:
            self._restart()
        if self._is_resized:
            self._resize()
        return keys

    def _start(self) -> None:
        self._screen = curses.initscr()
        curses.noecho()
        curses.cbreak()
        curses.set_escdelay(_ESCAPE_MILLISECONDS)
        self._screen.keypad(True)
        self._screen.nodelay(True)
        with suppress(curses.error):  # a terminal without it
            curses.curs_set(0)
        if self._has_colours:
            self._set_colours()
        self._resize()  # curses believes COLUMNS and LINES, which a shell may have set long ago

    def _set_colours(self) -> None:
        curses.start_color()
        if not curses.has_colors():
            return
        with suppress(curses.error):
            curses.use_default_colors()
        colours = _COLOURS_256 if curses.COLORS >= 256 else _COLOURS_8
        for number, (style, (text, background)) in enumerate(colours.items(), start=1):
            curses.init_pair(number, text, background)
            strong = curses.A_BOLD if style in _STRONG else curses.A_NORMAL
            self._attributes[style] = curses.color_pair(number) | strong

    def _stop(self) -> None:
        with suppress(curses.error):
            curses.endwin()
        with suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._modes)
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._close_pipe()

    def _close_pipe(self) -> None:
        for end in (self._read_end, self._write_end):
            os.close(end)
        self._write_end = -1

    def _note(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal, which also ends the wait."""
        if number in _ENDING:
            self.has_ended = True
            self.signal = 0 if number == signal.SIGINT else number
        elif number == signal.SIGTSTP:
            self._is_suspended = True
        elif number == signal.SIGCONT:
            self._is_continued = True
        else:
            self._is_resized = True

    def _pressed(self) -> list[str]:
        keys: list[str] = []
        while True:
            try:
                key: Any = self._screen.get_wch()
            except curses.error:
                return keys
            if key == _REDRAW:
                self._screen.clear()
            elif isinstance(key, int):
                keys.append(_KEYS.get(key, ""))
            else:
                keys.append(_CHARACTERS.get(key, key))

    def _suspend(self) -> None:
        """Stop this process as Ctrl-Z does, with the terminal as it was."""
        self._is_suspended = False
        curses.endwin()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._note)
        self._is_continued = True

    def _restart(self) -> None:
        """Set up the terminal again, which the shell has used in the meantime."""
        self._is_continued = False
        if not curses.isendwin():  # it was stopped by SIGSTOP
            curses.endwin()
        self._screen.refresh()
        self._screen.clear()
        self._is_resized = True

    def _resize(self) -> None:
        self._is_resized = False
        with suppress(OSError, curses.error):
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
            if rows and columns:
                curses.resize_term(rows, columns)
                self._screen.clear()


def _look_up_type() -> None:
    """Make curses know what the terminal can do.

    Raises:
        UnknownTerminalError: that is not known, or too little.
    """
    try:
        curses.setupterm(fd=sys.stdout.fileno())
    except curses.error as error:
        raise UnknownTerminalError(str(error)) from error
    if not curses.tigetstr("cup"):
        raise UnknownTerminalError("it cannot move its cursor")
