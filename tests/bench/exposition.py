# SPDX-License-Identifier: Apache-2.0
"""Row ``exposition``: the text of 16 GPUs x 7 MIG x 10 containers, by cdi-gen and by prometheus_client.

The figures of docs/decisions/0014-own-text-for-prometheus.md. Both make both formats, once an interval.
The library gets label names and values as lists, which cdi-gen does not even need to make.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator

from cdi_gen.metrics.events import RecentEvents
from cdi_gen.metrics.exposition import Family, render
from cdi_gen.metrics.families import Options, families
from tests.bench.contest import Lap, Line, exact
from tests.unit.metrics import snapshots

GPUS, MIG, CONTAINERS = 16, 7, 10
CPU_MS = 100.0
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Rows = list[tuple[str, str, list[str], list[tuple[list[str], float]]]]
"""Name, help, names of labels, and samples of each family."""


def exposition(runs: int) -> Iterator[Line]:
    """All lines."""
    snapshot = snapshots.many(GPUS, MIG, CONTAINERS)
    options = Options(hostname="node-1", max_containers=2000)
    recent = RecentEvents().update(snapshot.reading)

    def own() -> int:
        made = families(snapshot, options, recent)
        return len(render(made)) + len(render(made, openmetrics=True))

    rows = as_rows(families(snapshot, options, recent))
    samples = sum(len(row[3]) for row in rows)
    case = f"{GPUS} GPUs x {MIG} MIG x {CONTAINERS} containers, {samples} samples"
    laps = _laps(own, runs)
    bars = (exact("CPU of all text in ms", max(lap.cpu for lap in laps), CPU_MS),)
    yield Line("exposition", f"families and text: {case}", laps, bars=bars)
    yield Line("exposition", f"prometheus_client, text: {case}", _laps(lambda: library(rows), runs))


def _laps(work: Callable[[], int], runs: int) -> list[Lap]:
    laps = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        laps.append(
            Lap((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000, 0.0)
        )
    return laps


def as_rows(made: Iterable[Family]) -> Rows:
    """Return families as the library takes them: with one list of label names for all samples."""
    rows: Rows = []
    for family in made:
        labels = [dict(LABEL.findall(text)) for text in family.samples]
        names = [*dict.fromkeys(name for sample in labels for name in sample)]
        values = [[sample.get(name, "") for name in names] for sample in labels]
        samples = [*zip(values, family.samples.values(), strict=True)]
        if samples:
            rows.append((family.name, family.help, names, samples))
    return rows


def library(rows: Rows) -> int:
    """Make both formats with prometheus_client; returns their size."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.openmetrics import exposition as openmetrics
    from prometheus_client.registry import Collector

    class Families(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            for name, help_text, names, samples in rows:
                family = GaugeMetricFamily(name, help_text, labels=names)
                for values, value in samples:
                    family.add_metric(values, value)
                yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families())
    strict = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call,unused-ignore]
    return len(generate_latest(registry)) + len(strict)
