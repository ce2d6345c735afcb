# SPDX-License-Identifier: Apache-2.0
"""What users of GPU containers suffer from: each pain is made to happen, named by a command, and cured.

A test first shows the fault itself: the engine's error, or the broken state. It runs the command,
asserts the code and that message and fix name the cause, follows the printed fix, and sees that the
fault is gone by the same means. ``docs/troubleshooting.md`` is made from the decorators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])


class Pain(NamedTuple):
    """A pain of the list, and the command that explains it."""

    number: int
    message: str
    """What users see: the words of the error that they search for."""
    command: str
    codes: tuple[str, ...]
    """The codes that the command prints for it."""
    simulated: bool
    """Nobody here has the hardware: the fault is in an inventory or on a fake host."""
    test: str


PAINS: dict[tuple[int, str], Pain] = {}
"""By number and name of the test; a pain may have several tests."""


def pain(
    number: int, message: str, *, command: str, codes: tuple[str, ...], simulated: bool = False
) -> Callable[[Test], Test]:
    """Declare that a test is about a pain; see `Pain` for the arguments."""

    def register(test: Test) -> Test:
        name = f"{test.__module__.rpartition('.')[2]}.{test.__name__}"
        PAINS[number, name] = Pain(number, message, command, codes, simulated, name)
        return test

    return register
