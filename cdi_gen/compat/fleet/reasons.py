# SPDX-License-Identifier: Apache-2.0
"""Where in the table a verdict or a finding stands, and the counts in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.compat.driver_rules import NO
from cdi_gen.compat.fleet import marks
from cdi_gen.compat.fleet.matrix import Fleet
from cdi_gen.compat.verdict import UNKNOWN, Verdict


class Place(NamedTuple):
    """Images that have something in common on the same classes of hosts."""

    columns: tuple[int, ...]
    """Indexes into the fleet's classes."""
    images: tuple[str, ...]


class Reason(NamedTuple):
    """A distinct verdict, and the cells that have it."""

    number: int
    """Counted from 1, the worst first."""
    verdict: Verdict
    places: tuple[Place, ...]


class Remark(NamedTuple):
    """A finding of verdicts of the same severity, and the cells that have it."""

    severity: str
    kind: str
    finding: Finding
    places: tuple[Place, ...]


def reasons(fleet: Fleet) -> list[Reason]:
    """Return the distinct verdicts, the worst first, with the cells that have them."""
    places = _places(fleet, [[index] for index in range(len(fleet.verdicts))])
    return [
        Reason(index + 1, verdict, places[index]) for index, verdict in enumerate(fleet.verdicts)
    ]


def remarks(fleet: Fleet) -> list[Remark]:
    """Return why images do not run or have limits, the worst first; each finding once."""
    keys: dict[tuple[str, str, Finding], int] = {}
    groups = []
    for verdict in fleet.verdicts:
        severity = marks.severity(verdict)
        findings = verdict.limits if verdict.runs else (*verdict.reasons, *verdict.limits)
        groups.append(
            [
                keys.setdefault((severity, verdict.kind, finding), len(keys))
                for finding in findings
                if not verdict.runs or finding.severity in {"warning", "error"}
            ]
        )
    places = _places(fleet, groups)
    return [Remark(*key, places[index]) for key, index in keys.items()]


def _places(fleet: Fleet, groups: Sequence[Sequence[int]]) -> dict[int, tuple[Place, ...]]:
    """Return the cells of each group; `groups` has those that each verdict belongs to."""
    columns_of: dict[int, dict[str, list[int]]] = {}
    for row in fleet.rows:
        for column, cell in enumerate(row.cells):
            for group in groups[cell]:
                by_image = columns_of.setdefault(group, {})
                by_image.setdefault(row.facts.name, []).append(column)
    return {group: tuple(_grouped(by_image)) for group, by_image in columns_of.items()}


def _grouped(columns_of: dict[str, list[int]]) -> list[Place]:
    images: dict[tuple[int, ...], list[str]] = {}
    for image, columns in columns_of.items():
        images.setdefault(tuple(columns), []).append(image)
    return [Place(columns, tuple(names)) for columns, names in images.items()]


def ranges(columns: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of successive columns."""
    runs: list[tuple[int, int]] = []
    for column in columns:
        if runs and runs[-1][1] == column - 1:
            runs[-1] = (runs[-1][0], column)
        else:
            runs.append((column, column))
    return runs


def summary(fleet: Fleet) -> str:
    """Return the counts in a sentence."""
    counts = fleet.counts()
    pairs = sum(counts.values())
    running = pairs - counts[NO] - counts[UNKNOWN]
    parts = [f"all {pairs} pairs run" if running == pairs else f"{running} of {pairs} pairs run"]
    if counts[NO]:
        parts.append(f"{counts[NO]} {'does' if counts[NO] == 1 else 'do'} not")
    if counts[UNKNOWN]:
        parts.append(f"{counts[UNKNOWN]} unknown")
    if fleet.unreadable:
        parts.append(f"{_counted(len(fleet.unreadable), 'input')} not read")
    return (
        f"{_counted(len(fleet.rows), 'image')} on {_counted(fleet.hosts, 'host')} "
        f"({len(fleet.classes)} {'class' if len(fleet.classes) == 1 else 'classes'}): "
        f"{', '.join(parts)}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
