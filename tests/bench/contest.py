# SPDX-License-Identifier: Apache-2.0
"""What was measured: laps, lines of the table, and the bars that a line has to stay below."""

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
"""A program to run, as ``race.py`` has it."""


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
    """A limit that the project has set itself."""

    what: str
    value: float
    limit: float
    low: float
    high: float
    """Between these is the value of 95 of 100 such races, as far as one race can tell."""

    @property
    def verdict(self) -> str:
        """``met`` or ``NOT MET`` where the race is clear about it.

        A device cannot make a start faster, so a value below zero says only that the noise was
        larger than what was to be measured.
        """
        if self.low > self.limit:
            return "NOT MET"
        return "met" if self.high <= self.limit and self.low >= 0 else "UNDECIDED"


def exact(what: str, value: float, limit: float) -> Bar:
    """A bar for what does not vary."""
    return Bar(what, value, limit, value, value)


class Line(NamedTuple):
    """A line of the table."""

    row: str
    case: str
    ours: Laps
    peer: Laps = ()
    base: Laps = ()
    """What both would take anyway: ratios are of what is added to it."""
    bars: tuple[Bar, ...] = ()
    note: str = ""

    def added(self, laps: Laps, which: int) -> float:
        """Median of what each lap took above the base's lap of the same round."""
        base = self.base or [Lap(0, 0, 0)] * len(laps)
        return median(lap[which] - floor[which] for lap, floor in zip(laps, base, strict=True))

    def ratio(self, which: int) -> float | None:
        """Ours by the peer's: the median of the rounds' ratios; with a base, of what was added.

        The differences of single rounds may be near nothing, so then it is the ratio of medians.
        """
        if not self.peer or not self.peer[0][which]:
            return None
        if self.base:
            return self.added(self.ours, which) / self.added(self.peer, which)
        return ratio(self.ours, self.peer, which)


RESAMPLES = 1000


def interval(rounds: int, of: Callable[[Sequence[int]], float]) -> tuple[float, float]:
    """The 95% bootstrap interval of a number that is made of some of the rounds."""
    chance = random.Random(1)  # the same laps give the same interval
    found = sorted(of(chance.choices(range(rounds), k=rounds)) for _ in range(RESAMPLES))
    return found[RESAMPLES // 40], found[-RESAMPLES // 40]


def wall_bar(what: str, one: Laps, other: Laps, limit: float, base: Laps = ()) -> Bar:
    """A bar for the wall time of one by that of the other, or for what each adds to the base."""

    def of(rounds: Sequence[int]) -> float:
        ours, theirs, floor = ([laps[i] for i in rounds if laps] for laps in (one, other, base))
        return Line("", "", ours, theirs, floor).ratio(0) or 0.0

    everything = range(len(one))
    return Bar(what, of(everything), limit, *interval(len(one), of))


def cost_bar(what: str, one: tuple[Laps, Laps], other: tuple[Laps, Laps], limit: float) -> Bar:
    """A bar for what one adds to its own base, by what the other adds to its own.

    Args:
        what: what it is called.
        one: laps with and without what is measured.
        other: the same of the peer.
        limit: the bar.
    """

    def of(rounds: Sequence[int]) -> float:
        ours, theirs = (
            median(full[i].wall - bare[i].wall for i in rounds) for full, bare in (one, other)
        )
        return ours / theirs if theirs else 0.0

    everything = range(len(one[0]))
    return Bar(what, of(everything), limit, *interval(len(everything), of))


def ratio(one: Laps, other: Laps, which: int = 0) -> float:
    """The median of the ratios of the rounds."""
    return median(a[which] / b[which] for a, b in zip(one, other, strict=True))


def read_laps(printed: str) -> dict[str, list[Lap]]:
    """The laps by name that ``race.py`` printed."""
    return {name: [Lap(*lap) for lap in laps] for name, laps in json.loads(printed).items()}


def plan(runners: Mapping[str, Sequence[Step]], runs: int) -> str:
    """What ``race.py`` reads."""
    return json.dumps(
        {"runs": runs, "runners": {name: list(each) for name, each in runners.items()}}
    )


def race(
    runners: Mapping[str, Sequence[Step]], runs: int, *, within: Sequence[str] = ()
) -> dict[str, list[Lap]]:
    """Race programs on this machine, in the order given.

    Args:
        runners: steps by name.
        runs: rounds that count.
        within: a command that runs the whole race in other namespaces, say.
    """
    python = os.path.realpath(sys.executable)
    done = subprocess.run(
        [*within, python, "-I", "-S", str(RACE)],
        input=plan(runners, runs),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"a program of the race failed: {done.stderr.strip()}")
    return read_laps(done.stdout)
