# SPDX-License-Identifier: Apache-2.0
"""Shows samples on a terminal and follows its keys, until the user quits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.telemetry.model import Reading
from cdi_gen.top.frame import Frame, State, frame
from cdi_gen.top.glyphs import Glyphs
from cdi_gen.top.history import History
from cdi_gen.top.lines import Line
from cdi_gen.top.occupants import occupants
from cdi_gen.top.sample import Sample
from cdi_gen.top.sampler import Result
from cdi_gen.top.view import View, pressed

LONGEST_WAIT = 1.0
"""Seconds after which the screen is drawn again, with the age of the sample."""
NOTHING = Sample(snapshot=Snapshot(reading=Reading(time=0, seconds=0)))


class Display(Protocol):
    """A terminal."""

    has_ended: bool
    """Whether the terminal is gone, or a signal ends the program."""

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        ...

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines."""
        ...

    def keys(self, seconds: float) -> Sequence[str]:
        """Wait so long, or until something happens; return the keys that were pressed."""
        ...


class Source(Protocol):
    """What takes samples."""

    @property
    def result(self) -> Result:
        """The latest sample."""
        ...

    def configure(self, interval: float, *, is_paused: bool) -> None:
        """Change the interval; pause, or go on at once."""
        ...


class Loop:
    """Shows samples until the user quits.

    Args:
        display: the terminal.
        source: what takes samples.
        view: what the user has chosen on the command line.
        glyphs: what the terminal can show.
        host: the name of the host.
        is_root: whether this process may see everything.
    """

    def __init__(
        self,
        display: Display,
        source: Source,
        view: View,
        glyphs: Glyphs,
        *,
        host: str = "",
        is_root: bool = True,
    ) -> None:
        self._display = display
        self._source = source
        self._glyphs = glyphs
        self._result = Result()
        self._history = History()
        self._state = State(
            sample=NOTHING,
            occupants=(),
            history=self._history,
            view=view,
            host=host,
            is_root=is_root,
        )

    def run(self) -> None:
        """Return when the user has quit, or the terminal is gone."""
        while not (self._state.view.has_quit or self._display.has_ended):
            self._take()
            self._display.draw(self._frame().lines)
            for key in self._display.keys(LONGEST_WAIT):
                view = pressed(self._state.view, key, self._frame().shown)
                self._state = replace(self._state, view=view)
            view = self._state.view
            self._source.configure(view.interval, is_paused=view.is_paused)

    def _take(self) -> None:
        """Take the latest sample, if it is a new one."""
        result = self._source.result
        if result.number != self._result.number:
            if result.sample is not None and result.sample is not self._result.sample:
                users = occupants(result.sample)
                self._history.add(result.sample, users)
                self._state = replace(self._state, sample=result.sample, occupants=users)
            self._result = result
        age = time.monotonic() - result.ended if result.ended else 0.0
        self._state = replace(self._state, age=age, error=result.error)

    def _frame(self) -> Frame:
        """Return the screen as it is now; the view keeps which rows are seen."""
        screen = frame(self._state, *self._display.size(), self._glyphs)
        self._state = replace(self._state, view=screen.view)
        return screen
