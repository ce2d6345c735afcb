# SPDX-License-Identifier: Apache-2.0
"""Decides when a refresh is due: some time after the last change, and again after a failure.

Times are those of one monotonic clock, in seconds.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from cdi_gen.errors import ExitCode

State = TypeVar("State")

SETTLE_SECONDS = 1.0
"""A refresh waits so long for the next change: a driver creates its nodes one after the other."""

MAX_SETTLE_SECONDS = 10.0
"""A refresh waits no longer than this, however often the host changes."""

PAUSES = (5.0, 30.0, 120.0, 300.0)
"""Seconds until a refresh that failed is tried again: after many failures the last one."""

RECHECK_SECONDS = 300.0
"""A GPU that was left out may work again, which no change of the host shows."""

COMPLETE = (ExitCode.OK, ExitCode.NO_DRIVER)
INCOMPLETE = (ExitCode.PARTIAL, ExitCode.STALE)


class Schedule(Generic[State]):
    """Decides when a refresh is due, by the states of the host and the results of refreshes."""

    def __init__(self) -> None:
        self._current: State | None = None
        self._first_change = self._last_change = 0.0
        self._refreshed: State | None = None
        """The state of the last refresh."""
        self._again_at: float | None = None
        self._failures = 0

    @property
    def refreshed(self) -> State | None:
        """The state of the host at the last refresh; None before the first one."""
        return self._refreshed

    def observe(self, state: State, now: float) -> None:
        """Take note of the state of the host."""
        if state == self._current:
            return
        if self._current is None or self._current == self._refreshed:
            self._first_change = now
        self._current, self._last_change = state, now

    def due_at(self) -> float | None:
        """Return when a refresh is due; None: only after a change."""
        if self._refreshed is None:
            return self._first_change
        if self._current == self._refreshed:
            return self._again_at
        settled = self._last_change + SETTLE_SECONDS
        return min(settled, self._first_change + MAX_SETTLE_SECONDS)

    def refresh_ended(self, state: State, code: int, now: float) -> None:
        """Take note of the result of a refresh.

        Args:
            state: the state of the host before the refresh.
            code: the exit code.
            now: the time.
        """
        self._refreshed = state
        if code in COMPLETE or code in INCOMPLETE:
            self._failures = 0
            self._again_at = now + RECHECK_SECONDS if code in INCOMPLETE else None
            return
        self._again_at = now + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
