# SPDX-License-Identifier: Apache-2.0
"""Takes samples in a thread, so that a pass that takes long does not keep keys waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cdi_gen.top.sample import Sample


@dataclass(frozen=True, slots=True)
class Result:
    """The latest sample."""

    number: int = 0
    """Counts the passes; 0: there was none."""
    sample: Sample | None = None
    """None if no pass has succeeded."""
    ended: float = 0.0
    """When its pass ended, by the monotonic clock."""
    error: str = ""
    """Why the latest pass failed."""


class Sampler:
    """Takes a sample at each interval, until it is closed.

    Args:
        take: takes a sample.
        interval: seconds from the begin of a pass to that of the next one.
        notify: called in the thread after each pass.
    """

    def __init__(
        self, take: Callable[[], Sample], interval: float, notify: Callable[[], None]
    ) -> None:
        self._take = take
        self._notify = notify
        self._interval = interval
        self._is_paused = False
        self._is_closed = False
        self._changed = threading.Condition()
        self._result = Result()
        # A pass that hangs in the kernel must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="cdi-gen top sampler", daemon=True)
        self._thread.start()

    @property
    def result(self) -> Result:
        """The latest sample."""
        return self._result

    def configure(self, interval: float, *, is_paused: bool) -> None:
        """Change the interval; pause, or go on at once."""
        with self._changed:
            if (interval, is_paused) != (self._interval, self._is_paused):
                self._interval = interval
                self._is_paused = is_paused
                self._changed.notify()

    def close(self, patience: float) -> None:
        """End the thread; wait at most so many seconds for a pass that is under way."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while not self._is_closed:
            begin = time.monotonic()
            self._result = self._next(self._result)
            self._notify()
            self._wait(begin)

    def _next(self, last: Result) -> Result:
        try:
            sample = self._take()
        except Exception as error:  # noqa: BLE001 - the view goes on, and says so
            return Result(
                last.number + 1, last.sample, last.ended, str(error) or type(error).__name__
            )
        return Result(last.number + 1, sample, time.monotonic())

    def _wait(self, begin: float) -> None:
        """Wait until the next pass is due."""
        with self._changed:
            while not self._is_closed:
                left = None if self._is_paused else begin + self._interval - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._changed.wait(left)
