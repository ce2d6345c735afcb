# SPDX-License-Identifier: Apache-2.0
"""Compares the series of a scrape with nvidia-smi's readings of the same seconds. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from cdi_gen.metrics.catalogue import Field, Name
from cdi_gen.telemetry.kept import SLOWLY
from tests.gpu.metrics.sources import SOURCES, Source

EQUAL, DIFFERENT, NOT_TOLD, NOT_THERE, ONLY_HERE = (
    "equal",
    "DIFFERENT",
    "neither tells it",
    "MISSING: only nvidia-smi tells it",
    "nvidia-smi does not tell it",
)

Readings = Mapping[str, Sequence[float]]


class Row(NamedTuple):
    """A series beside a source of nvidia-smi."""

    series: str
    gpu: str
    ours: tuple[float, ...]
    """The values of all scrapes, in the series' unit."""
    place: str
    theirs: tuple[float, ...]
    """In the same unit."""
    margin: float
    """How far our median may be outside of nvidia-smi's range."""
    verdict: str


def compare(
    field: Field, name: Name, gpu: str, ours: Sequence[float], readings: Readings
) -> list[Row]:
    """Compare a series of a GPU with every source that nvidia-smi has for it.

    Args:
        field: what the series presents.
        name: its name, of one set of names.
        gpu: the index.
        ours: the values of all scrapes; empty if there is no such series.
        readings: the values of nvidia-smi by source.
    """
    sources = [source for source in SOURCES.get(field.key, ()) if readings.get(source.place)]
    sources = [source for source in sources if not source.is_last_resort] or sources
    if not sources:
        return [Row(name.name, gpu, tuple(ours), "-", (), 0, ONLY_HERE if ours else NOT_TOLD)]
    return [_row(name, gpu, ours, source, readings[source.place]) for source in sources]


def _row(
    name: Name, gpu: str, ours: Sequence[float], source: Source, theirs: Sequence[float]
) -> Row:
    # nvidia-smi's readings in the unit of the series.
    factor = source.factor * name.factor
    values = tuple(value * factor for value in theirs)
    margin = max(
        source.margin * factor,
        max(values) - min(values),
        1.0 if name.whole and source.margin else 0.0,
    )
    if not ours:
        verdict = NOT_THERE
    elif min(values) - margin <= median(ours) <= max(values) + margin:
        verdict = EQUAL
    else:
        verdict = DIFFERENT
    return Row(name.name, gpu, tuple(ours), source.place, values, margin, verdict)


class Energy(NamedTuple):
    """The energy of a window, by the counter and from the power."""

    joules: float
    low: float
    high: float

    @property
    def is_plausible(self) -> bool:
        """Whether the counter grew by what the power tells."""
        return self.low <= self.joules <= self.high


def energy(counter: Sequence[tuple[float, float]], watts: Sequence[float]) -> Energy | None:
    """Compare a counter with the power of the same seconds; None if there are too few readings.

    Args:
        counter: times in seconds, and joules.
        watts: nvidia-smi's readings.
    """
    if len(counter) < 2 or not watts:
        return None
    (first_time, first), (last_time, last) = counter[0], counter[-1]
    seconds = last_time - first_time
    # The service reads the energy every 30 s; and the spread of the power itself.
    margin = SLOWLY + 1
    low = min(watts) * max(seconds - margin, 0)
    return Energy(last - first, low * 0.95, max(watts) * (seconds + margin) * 1.05)


def faults(rows: Iterable[Row]) -> list[str]:
    """Return a line for each row that is not as expected."""
    return [
        f"{row.series} of GPU {row.gpu}: {row.verdict}; ours {span(row.ours)}, "
        f"{row.place} {span(row.theirs)}, margin {row.margin:g}"
        for row in rows
        if row.verdict in (DIFFERENT, NOT_THERE)
    ]


def span(values: Sequence[float]) -> str:
    """Return the range of values for a table."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
