# SPDX-License-Identifier: Apache-2.0
"""Writes measured values for people; a value that is not known is a dash."""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_NUMBER = 3
"""Characters of a number without its fraction, which has room for one digit more."""


def size(count: float | None, dash: str) -> str:
    """Return bytes in the largest unit of which there is at least one: ``81.2 GiB``."""
    if count is None:
        return dash
    number, unit = _scaled(count)
    return f"{_digits(number) if count >= 1024 else round(count)} {unit}"


def size_of(used: float | None, total: float | None, dash: str) -> str:
    """Return used and total bytes in the unit of the total: ``81.2/141 GiB``."""
    if used is None or not total:
        return size(used, dash)
    number, unit = _scaled(total)
    return f"{_digits(used * number / total):>4}/{number:.0f} {unit}"


def percent(share: float | None, dash: str) -> str:
    """Return a share as a percentage; what is not 0 is at least 1 %."""
    if share is None:
        return dash
    return f"{max(round(share * 100), 1 if share > 0 else 0)}%"


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of the values that are known; None if none of them is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known; None if none of them is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def indices(names: Iterable[str]) -> str:
    """Return device indices as ranges: ``0-3,5,6:0-6:2``."""
    ranges: list[list[str]] = []
    for name in names:
        if ranges and _is_next(ranges[-1][-1], name):
            ranges[-1].append(name)
        else:
            ranges.append([name])
    return ",".join(
        ",".join(run) if len(run) < _NUMBER else f"{run[0]}-{run[-1]}" for run in ranges
    )


def _is_next(first: str, second: str) -> bool:
    *before, number = first.split(":")
    *after, following = second.split(":")
    return (
        before == after
        and number.isdecimal()
        and following.isdecimal()
        and int(number) + 1 == int(following)
    )


def _scaled(count: float) -> tuple[float, str]:
    power = 0
    while count >= 1024 and power < len(_UNITS) - 1:
        count /= 1024
        power += 1
    return count, _UNITS[power]


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 99.95 else f"{number:.1f}"
