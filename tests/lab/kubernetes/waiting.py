# SPDX-License-Identifier: Apache-2.0
"""Waiting for something that a program of the cluster does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 300
"""Much more than is ever needed: a test must not fail because the machine does something else."""


def until(condition: Callable[[], T | None], what: str, *, seconds: float = SECONDS) -> T:
    """Return the first true value of ``condition``, which is called again and again.

    Args:
        condition: an OSError of it means: not yet.
        what: the condition in words, for the error.
        seconds: how long to wait.

    Raises:
        TimeoutError: it was not true in time.
    """
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            last = value = condition()
        except OSError as error:
            last = error
        else:
            if value:
                return value
        time.sleep(0.05)
    raise TimeoutError(f"waited {seconds} s for this: {what}; the last answer: {last!r}")
