# SPDX-License-Identifier: Apache-2.0
"""Versions of drivers, CUDA, engines and the CDI standard: one grammar, one order.

A version is one to three decimal numbers with dots between them: `575.57.08`, `12.4`, `5`. Three
rules make versions of different lengths comparable:

* Numbers are compared as numbers: 12.10 is newer than 12.9, and 575.57.08 equals 575.57.8.
* A missing number is a zero: 12 equals 12.0 and 12.0.0, and 12.4 is older than 12.4.1.
* So zeros at the end are dropped, and versions are equal exactly if their tuples are. The first
  number stays, whatever it is: 0.0 is `(0,)`.

Anything else is not a version: a `v` in front, a suffix (`-rc.1`, `+ds1`), a fourth number, or a
number of more than six digits, which is a date or a build. A caller whose input has those removes
them first. A requirement of an image (`requirement`) has a grammar of NVIDIA's own; its versions
are reduced by `normal` and ordered by the same rules.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Version = tuple[int, ...]
"""The numbers of a version without zeros at the end; tuples compare as the versions do."""

MAX_NUMBERS = 3
MAX_DIGITS = 6
"""The largest number of digits of one number."""


def parse(text: str) -> Version | None:
    """Return the numbers of a version (`575.57.08` is (575, 57, 8)); None if it is not one."""
    parts = text.split(".")
    if len(parts) > MAX_NUMBERS:
        return None
    for part in parts:
        if not (part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS):
            return None
    return normal(map(int, parts))


def normal(numbers: Iterable[int]) -> Version:
    """Return numbers without the zeros at the end, so that equal versions are equal tuples."""
    version = tuple(numbers)
    while len(version) > 1 and not version[-1]:
        version = version[:-1]
    return version


def at_least(version: str | None, least: str, *, unknown: bool) -> bool:
    """Whether a version is `least` or newer.

    Args:
        version: a version; None, or text that is not a version, is unknown.
        least: the version to compare with.
        unknown: the answer for a version that is unknown.

    Raises:
        ValueError: `least` is not a version.
    """
    bound = parse(least)
    if bound is None:
        raise ValueError(f"{least!r} is not a version")
    numbers = None if version is None else parse(version)
    return unknown if numbers is None else numbers >= bound
