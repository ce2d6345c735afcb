# SPDX-License-Identifier: Apache-2.0
"""Limits the rate of requests, as ``rate_limit`` of the web configuration says."""

from __future__ import annotations

import time
from collections.abc import Callable

from cdi_gen.metrics.web.config_file import RateLimit


class TokenBucket:
    """A bucket that is full at first, and gets a token in each interval.

    Args:
        limit: interval and size.
        clock: returns seconds.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled_at = clock()

    def take(self) -> bool:
        """Take a token; return whether there was one."""
        now = self._clock()
        gained = (now - self._filled_at) / self._limit.interval
        self._tokens = min(float(self._limit.burst), self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
