# SPDX-License-Identifier: Apache-2.0
"""The table for a terminal: classes of hosts, images by classes, and the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cdi_base.errors import printable
from cdi_gen.compat.fleet import marks
from cdi_gen.compat.fleet.matrix import Fleet
from cdi_gen.compat.fleet.reasons import Place, Remark, ranges, remarks, summary
from cdi_gen.compat.verdict import KINDS

WIDTH = 120
"""Columns of a file or a pipe."""

MAX_HOSTS = 5
"""The largest number of hosts of a class that are named; the other forms name all."""

MAX_IMAGES = 5
"""The largest number of images with the same remark that are named."""


def render(fleet: Fleet, *, width: int = WIDTH, signs: Mapping[str, str] = marks.SIGNS) -> str:
    """Return the table as text.

    Args:
        fleet: the verdicts.
        width: the width of the terminal; a table with more columns is divided.
        signs: `marks.SIGNS`, or `marks.ASCII_SIGNS` for a terminal that lacks them.
    """
    parts = [[summary(fleet)], [*_hosts(fleet)]]
    if fleet.classes and fleet.rows:
        parts += [[*lines] for lines in _tables(fleet, width, signs)]
        parts += [[*_remark(fleet, remark, signs)] for remark in remarks(fleet)]
    if fleet.unreadable:
        rows = [(row.subject, row.name, marks.line(row.reason)) for row in fleet.unreadable]
        parts.append([*_aligned([("NOT READ", "NAME", "REASON"), *rows])])
    if fleet.classes and fleet.rows:
        parts.append([*_legend(fleet, signs)])
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in parts if lines)


def _hosts(fleet: Fleet) -> Iterator[str]:
    rows = [("", "DRIVER", "CUDA", "GPUS", "HOSTS", "")]
    for host_class in fleet.classes:
        names = host_class.hosts[:MAX_HOSTS]
        rest = len(host_class.hosts) - len(names)
        rows.append(
            (
                host_class.label,
                host_class.driver,
                host_class.facts.cuda or "-",
                host_class.gpus,
                str(len(host_class.hosts)),
                ", ".join(names) + (f" and {rest} more" if rest else ""),
            )
        )
    if fleet.classes:
        yield from _aligned(rows)


def _tables(fleet: Fleet, width: int, signs: Mapping[str, str]) -> Iterator[Iterator[str]]:
    """Yield the table; several with the same rows if it is wider than the terminal."""
    heads = [("IMAGE", "CUDA")] + [
        (printable(row.facts.name), printable(row.facts.cuda or "-")) for row in fleet.rows
    ]
    cells = [
        f"{signs[marks.severity(verdict)]} {marks.WORDS[verdict.kind]}"
        for verdict in fleet.verdicts
    ]
    columns = [
        (host_class.label, *(cells[row.cells[index]] for row in fleet.rows))
        for index, host_class in enumerate(fleet.classes)
    ]
    space = width - sum(max(map(len, column)) + 2 for column in zip(*heads, strict=True))
    widest = max(map(len, cells)) + 2
    count = max(1, space // widest, min(len(columns), 4))
    for start in range(0, len(columns), count):
        block = columns[start : start + count]
        yield _aligned(
            [head + row for head, row in zip(heads, zip(*block, strict=True), strict=True)]
        )


def _remark(fleet: Fleet, remark: Remark, signs: Mapping[str, str]) -> Iterator[str]:
    finding = remark.finding
    message = f"{printable(finding.message)} [{finding.code}]"
    yield f"{signs[remark.severity]} {marks.WORDS[remark.kind]}: {message}"
    for place in remark.places:
        images = ", ".join(map(printable, place.images[:MAX_IMAGES]))
        rest = len(place.images) - MAX_IMAGES
        yield f"    on {_labels(fleet, place)}: {images}{f' and {rest} more' if rest > 0 else ''}"
    if finding.fix:
        yield f"    fix: {printable(finding.fix)}"


def _labels(fleet: Fleet, place: Place) -> str:
    labels = [host_class.label for host_class in fleet.classes]
    return ", ".join(
        labels[first] if first == last else f"{labels[first]}-{labels[last]}"
        for first, last in ranges(place.columns)
    )


def _legend(fleet: Fleet, signs: Mapping[str, str]) -> Iterator[str]:
    severities = {marks.severity(verdict) for verdict in fleet.verdicts}
    kinds = {verdict.kind for verdict in fleet.verdicts}
    yield "; ".join(
        f"{signs[severity]} {marks.SIGN_MEANINGS[severity]}"
        for severity in marks.WORST_FIRST
        if severity in severities
    )
    yield from (f"{marks.WORDS[kind]}: {marks.MEANINGS[kind]}" for kind in KINDS if kind in kinds)


def _aligned(lines: Sequence[tuple[str, ...]]) -> Iterator[str]:
    lines = [tuple(map(printable, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()
