# SPDX-License-Identifier: Apache-2.0
"""Keeps quantities between passes, because they seldom change or NVML takes long for them."""

from __future__ import annotations

import time
from collections.abc import Callable

SELDOM = 60.0
"""Seconds. For what only an administrator changes, for errors, and for what takes milliseconds."""

SLOWLY = 30.0
"""Seconds; the interval of dcgm-exporter."""


class Kept:
    """Quantities of one GPU that are read again after some time.

    Args:
        seconds: how long they are kept.
        read: reads them.
        until_told: ask in each pass until there is an answer: a rate needs two readings.
    """

    def __init__(
        self, seconds: float, read: Callable[[], dict[str, float]], *, until_told: bool = False
    ) -> None:
        self._seconds = seconds
        self._read = read
        self._until_told = until_told
        self._quantities: dict[str, float] = {}
        self._time = -seconds

    def quantities(self) -> dict[str, float]:
        """Return the quantities, of now or of some time ago."""
        now = time.monotonic()
        if (self._until_told and not self._quantities) or now - self._time >= self._seconds:
            self._quantities = self._read()
            self._time = now
        return self._quantities
