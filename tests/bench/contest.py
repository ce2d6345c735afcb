# SPDX-License-Identifier: Apache-2.0
"""The measurements: laps, lines of the table, and the bars that a line has to stay below."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

RACE = Path(__file__).with_name("race.py")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

Step = dict[str, Any]
"""A program to run, in the form that ``race.py`` reads."""


class Lap(NamedTuple):
    """One run of a program."""

    wall: float
    """Milliseconds by the clock."""
    cpu: float
    """Milliseconds of CPU, user and system; 0 where it is not known."""
    peak: float
    """KiB of memory at most; 0 where it is not known."""


Laps = Sequence[Lap]


class Bar(NamedTuple):
    """A limit that the project has set for a measurement."""

    title: str
    value: float
    limit: float
    low: float
    high: float
    """``low`` and ``high`` bound the 95% interval, estimated from this race alone."""

    @property
    def verdict(self) -> str:
        """``met`` or ``NOT MET`` if the whole interval is on one side of the limit.

        A device cannot make a start faster, so a value below zero says only that the noise was
        larger than what was to be measured.
        """
        if self.low > self.limit:
            return "NOT MET"
        return "met" if self.high <= self.limit and self.low >= 0 else "UNDECIDED"


def exact(title: str, value: float, limit: float) -> Bar:
    """A bar for a value that does not vary."""
    return Bar(title, value, limit, value, value)


class Line(NamedTuple):
    """A line of the table."""

    row: str
    case: str
    ours: Laps
    nvidia: Laps = ()
    base: Laps = ()
    """What both take without a device: ratios are of the time that is added to it."""
    bars: tuple[Bar, ...] = ()
    note: str = ""

    def added(self, laps: Laps, which: int) -> float:
        """Median of what each lap took above the base's lap of the same round."""
        base = self.base or [Lap(0, 0, 0)] * len(laps)
        pairs = zip(laps, base, strict=True)
        return median(lap[which] - base_lap[which] for lap, base_lap in pairs)

    def ratio(self, which: int) -> float | None:
        """Our value divided by NVIDIA's: the median of the rounds' ratios.

        With a base, the ratio of the medians of what was added to it, because the differences of
        single rounds may be close to zero.
        """
        if not self.nvidia or not self.nvidia[0][which]:
            return None
        if self.base:
            return self.added(self.ours, which) / self.added(self.nvidia, which)
        return ratio(self.ours, self.nvidia, which)


RESAMPLES = 1000


def interval(rounds: int, of: Callable[[Sequence[int]], float]) -> tuple[float, float]:
    """The 95% bootstrap interval of a number that is calculated from some of the rounds."""
    generator = random.Random(1)  # the same laps give the same interval
    values = sorted(of(generator.choices(range(rounds), k=rounds)) for _ in range(RESAMPLES))
    return values[RESAMPLES // 40], values[-RESAMPLES // 40]


def wall_bar(title: str, one: Laps, other: Laps, limit: float, base: Laps = ()) -> Bar:
    """A bar for the ratio of two wall times; with a base, of the times added to the base."""

    def of(rounds: Sequence[int]) -> float:
        ours, theirs, bases = ([laps[i] for i in rounds if laps] for laps in (one, other, base))
        return Line("", "", ours, theirs, bases).ratio(0) or 0.0

    all_rounds = range(len(one))
    return Bar(title, of(all_rounds), limit, *interval(len(one), of))


def cost_bar(title: str, one: tuple[Laps, Laps], other: tuple[Laps, Laps], limit: float) -> Bar:
    """A bar for the ratio of two costs, each the time that something adds to its own base.

    Args:
        title: the name of the bar in the table.
        one: laps with and without what is measured.
        other: the same for NVIDIA's program.
        limit: the value that the ratio must not exceed.
    """

    def of(rounds: Sequence[int]) -> float:
        ours, theirs = (
            median(full[i].wall - bare[i].wall for i in rounds) for full, bare in (one, other)
        )
        return ours / theirs if theirs else 0.0

    all_rounds = range(len(one[0]))
    return Bar(title, of(all_rounds), limit, *interval(len(all_rounds), of))


def ratio(one: Laps, other: Laps, which: int = 0) -> float:
    """The median of the ratios of the rounds."""
    return median(a[which] / b[which] for a, b in zip(one, other, strict=True))


def read_laps(printed: str) -> dict[str, list[Lap]]:
    """The laps by name that ``race.py`` printed."""
    return {name: [Lap(*lap) for lap in laps] for name, laps in json.loads(printed).items()}


def plan(runners: Mapping[str, Sequence[Step]], runs: int) -> str:
    """The input of ``race.py``."""
    return json.dumps(
        {"runs": runs, "runners": {name: list(steps) for name, steps in runners.items()}}
    )


def race(
    runners: Mapping[str, Sequence[Step]], runs: int, *, within: Sequence[str] = ()
) -> dict[str, list[Lap]]:
    """Race programs on this machine, in the order given.

    Args:
        runners: steps by name.
        runs: rounds that count.
        within: a command that runs the race, for example ``unshare``.
    """
    python = os.path.realpath(sys.executable)
    process = subprocess.run(
        [*within, python, "-I", "-S", str(RACE)],
        input=plan(runners, runs),
        check=False,
        capture_output=True,
        text=True,
    )
    if process.returncode != 0:
        sys.exit(f"a program of the race failed: {process.stderr.strip()}")
    return read_laps(process.stdout)
