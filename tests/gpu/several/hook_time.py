# SPDX-License-Identifier: Apache-2.0
"""The results of ``inside/measured.c`` and ``inside/timed_hook.py``. Pure functions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

PROCESS_HEAD = ("wall, ms", "user, ms", "system, ms", "page faults", "peak, MiB")
INDENT = "&emsp;"


class ProcessRun(NamedTuple):
    """A line of ``measured.c``."""

    begin: int
    """Nanoseconds of the monotonic clock."""
    end: int
    user: int
    """Microseconds."""
    system: int
    minor_faults: int
    major_faults: int
    voluntary_switches: int
    involuntary_switches: int
    peak: int
    """KiB."""

    @property
    def wall(self) -> float:
        """Milliseconds."""
        return (self.end - self.begin) / 1e6


class HookRun(NamedTuple):
    """A line of ``timed_hook.py``."""

    started: int
    """When its first line ran, in nanoseconds of the monotonic clock."""
    ended: int
    status: int
    spans: tuple[tuple[str, int, int], ...]
    """Names of parts, and when they began and ended."""
    calls: dict[str, int]
    directories: tuple[str, ...]


def process_runs(text: str) -> tuple[ProcessRun, ...]:
    """Parse the file that ``measured.c`` wrote."""
    return tuple(ProcessRun(*map(int, line.split())) for line in text.splitlines())


def hook_runs(text: str) -> tuple[HookRun, ...]:
    """Parse the file that ``timed_hook.py`` wrote."""
    runs = []
    for line in text.splitlines():
        value = ast.literal_eval(line)
        runs.append(
            HookRun(
                value["started"],
                value["ended"],
                value["status"],
                tuple(value["spans"]),
                value["calls"],
                tuple(value["directories"]),
            )
        )
    return tuple(runs)


def without(words: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the words of a command line without these options, whose values are words too."""
    left: list[str] = []
    names = set(names)
    rest = iter(words)
    for word in rest:
        if word in names:
            next(rest, None)
        elif word.partition("=")[0] not in names:
            left.append(word)
    return left


def phases(hooks: Sequence[HookRun], processes: Sequence[ProcessRun]) -> dict[str, float]:
    """Return the medians of all phases of the process in milliseconds, in the order of the process.

    Raises:
        ValueError: the numbers of the runs differ, or a hook has failed.
    """
    tables = []
    for hook, process in zip(hooks, processes, strict=True):
        if hook.status:
            raise ValueError(f"a hook ended with {hook.status}")
        tables.append(_phases(hook, process))
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: median(table.get(name, 0) for table in tables) for name in names}


def _phases(hook: HookRun, process: ProcessRun) -> dict[str, float]:
    table = {
        "the whole process": process.wall,
        "user time": process.user / 1e3,
        "system time": process.system / 1e3,
        "minor page faults (a number)": float(process.minor_faults),
        "major page faults (a number)": float(process.major_faults),
        "the interpreter: until its first line": (hook.started - process.begin) / 1e6,
    }
    top_level = 0
    for name, begin, end in sorted(hook.spans, key=lambda span: (span[1], -span[2])):
        is_part = any(
            other_begin <= begin and end <= other_end and (other_begin, other_end) != (begin, end)
            for _, other_begin, other_end in hook.spans
        )
        if not is_part:
            top_level += end - begin
        title = f"{INDENT}{name}" if is_part else name
        table[title] = table.get(title, 0) + (end - begin) / 1e6
    table["the rest between them"] = (hook.ended - hook.started - top_level) / 1e6
    table["the end of the process"] = (process.end - hook.ended) / 1e6
    return table


def process_row(runs: Sequence[ProcessRun]) -> tuple[str, ...]:
    """Return the cells of ``PROCESS_HEAD``: medians."""
    return (
        f"{median(run.wall for run in runs):.1f}",
        f"{median(run.user for run in runs) / 1e3:.1f}",
        f"{median(run.system for run in runs) / 1e3:.1f}",
        f"{median(run.minor_faults for run in runs):.0f}",
        f"{median(run.peak for run in runs) / 1024:.1f}",
    )
