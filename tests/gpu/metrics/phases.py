# SPDX-License-Identifier: Apache-2.0
"""A phase: containers run, and scrapes and nvidia-smi's readings of the same seconds are compared."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cdi_gen.metrics import catalogue
from tests.gpu.metrics import comparison, containers, nvidia_smi, sources
from tests.gpu.metrics.comparison import DIFFERENT, ONLY_HERE
from tests.gpu.metrics.exporter import Exporter, Sample, Scrape
from tests.gpu.metrics.loads import Loaded
from tests.gpu.several.gpus import markdown_table

SETTLE_SECONDS = 5
"""For the clocks, the power and the averages of NVML."""
ENERGY = "gpu_energy_joules_total"
PLACES_LENGTH = 60
"""Characters of the names of sources in a table."""


class Result(NamedTuple):
    """What a phase has shown."""

    title: str
    text: list[str]
    faults: list[str]
    device_rows: list[comparison.Row]
    container_rows: list[containers.Row]
    memory: dict[int, float]
    """MiB of GPU memory by process, by nvidia-smi at the end."""
    outputs: Mapping[str, str]
    """The last output of each command of nvidia-smi."""
    scrape: Scrape


@contextmanager
def collected(failures: list[str]) -> Iterator[None]:
    """Add an error to the list in place of raising it."""
    try:
        yield
    except OSError as error:
        failures.append(f"scrape: {error}")


def series_names() -> dict[str, tuple[catalogue.Field, catalogue.Name]]:
    """Return the fields of GPUs by the names of both sets."""
    return {
        name.name: (field, name)
        for field in catalogue.fields()
        if field.entity == catalogue.GPU
        for name in field.names.values()
    }


def series_names_of(set_name: str) -> list[catalogue.Name]:
    """Return the names of one set."""
    return [field.names[set_name] for field in catalogue.fields() if set_name in field.names]


def measure(
    title: str,
    loads: Sequence[Loaded],
    exporter: Exporter,
    seconds: int,
    names: Sequence[str],
    requested: frozenset[str],
) -> Result:
    """Scrape and run nvidia-smi for some seconds, and compare.

    Args:
        title: of the phase.
        loads: the containers that run.
        exporter: measures every second or two.
        seconds: how long.
        names: of `nvidia-smi --query-gpu`.
        requested: the series that must be there if nvidia-smi tells their values.
    """
    time.sleep(SETTLE_SECONDS)
    scrapes: list[Scrape] = []
    failures: list[str] = []
    end = threading.Event()

    def scrape_again_and_again() -> None:
        with collected(failures):
            while not end.wait(1):
                scrapes.append(exporter.scrape())

    sampler = nvidia_smi.Sampler(names, sources.GPM_METRICS, seconds)
    scraper = threading.Thread(target=scrape_again_and_again)
    scraper.start()
    try:
        sampler.sample()
    finally:
        end.set()
        scraper.join()
    return _result(title, loads, scrapes, sampler, failures, requested)


def _result(
    title: str,
    loads: Sequence[Loaded],
    scrapes: Sequence[Scrape],
    sampler: nvidia_smi.Sampler,
    failures: list[str],
    requested: frozenset[str],
) -> Result:
    samples = [scrape.samples() for scrape in scrapes]
    by_name = series_names()
    rows: list[comparison.Row] = []
    for gpu in sorted(sampler.readings):
        readings = sampler.readings[gpu]
        for name, (field, presented) in by_name.items():
            ours = _values(samples, name, gpu)
            rows += comparison.compare(field, presented, gpu, ours, readings)
    faults = [*failures, *(f"nvidia-smi: {failure}" for failure in sampler.failures)]
    faults += comparison.faults(row for row in rows if row.ours or row.series in requested)
    table = containers.rows(loads, samples, sampler.listed, sampler.monitored)
    faults += [
        f"{row.container}: {row.series}: ours {comparison.span(row.ours)}, "
        f"{row.place} {comparison.span(row.theirs)}, margin {row.margin:g}"
        for row in table
        if row.verdict == DIFFERENT
    ]
    faults += containers.load_faults(loads, table)
    if samples:
        faults += containers.label_faults(loads, samples[-1], frozenset(by_name))
    text = [
        *_containers_table(loads, table),
        "",
        *_device_table(rows),
        "",
        *_energy(samples, scrapes, sampler, faults),
    ]
    memory = {sample.pid: sample.memory for sample in sampler.listed if sample.memory is not None}
    return Result(
        title,
        text,
        [f"{title}: {fault}" for fault in faults],
        rows,
        table,
        memory,
        sampler.outputs,
        scrapes[-1] if scrapes else Scrape(0, 0, ""),
    )


def _values(samples: Sequence[Sequence[Sample]], name: str, gpu: str) -> list[float]:
    return [
        sample.value
        for scrape in samples
        for sample in scrape
        if sample.name == name and sample.labels.get("gpu") == gpu
    ]


def _containers_table(loads: Sequence[Loaded], table: Sequence[containers.Row]) -> list[str]:
    if not loads:
        return ["No container runs."]
    lines = [
        f"- {loaded.load.name}: {loaded.load.kind}, {loaded.load.gibibytes:g} GiB, GPU {loaded.load.gpu.index}, "
        f"{loaded.load.way}, {loaded.engine}; {loaded.program}; "
        f"ModifyDeviceFiles: {loaded.modify_device_files or '-'}"
        for loaded in loads
    ]
    head = ("container", f"`{containers.PREFIX}…`", "ours", "nvidia-smi", "source", "margin", "")
    cells = [
        (
            *(row.container, row.series, comparison.span(row.ours), comparison.span(row.theirs)),
            *(row.place, f"{row.margin:g}", row.verdict),
        )
        for row in table
    ]
    return [*lines, "", *markdown_table(head, cells)]


def _device_table(rows: Sequence[comparison.Row]) -> list[str]:
    """Return a row for each series of one set of names; all comparisons are in the counts.

    The other set has the same quantities in other units.
    """
    old = {name.name for name in series_names_of(catalogue.OLD)}
    by_series: dict[str, list[comparison.Row]] = {}
    for row in rows:
        if row.ours and (row.series in old or row.verdict == DIFFERENT):
            by_series.setdefault(row.series, []).append(row)
    cells, untold = [], []
    for series, of_series in by_series.items():
        by_gpu: dict[str, list[comparison.Row]] = {}
        for row in of_series:
            by_gpu.setdefault(row.gpu, []).append(row)
        ours = " · ".join(comparison.span(of_gpu[0].ours) for of_gpu in by_gpu.values())
        if of_series[0].verdict == ONLY_HERE:
            untold.append(f"`{series}` {ours}")
            continue
        theirs = " · ".join(
            comparison.span([value for row in of_gpu for value in row.theirs])
            for of_gpu in by_gpu.values()
        )
        places = ", ".join(dict.fromkeys(row.place for row in of_series))
        margin = max(row.margin for row in of_series)
        verdict = verdict_of(of_series)
        cells.append(
            (f"`{series}`", ours, theirs, places[:PLACES_LENGTH], f"{margin:.3g}", verdict)
        )
    head = ("series, names up to 4.8", "ours", "nvidia-smi", "sources", "margin", "")
    return [
        f"GPUs in the order of their index: {' · '.join(sorted({row.gpu for row in rows}))}.",
        "",
        *markdown_table(head, cells),
        "",
        f"nvidia-smi does not tell: {', '.join(untold) or 'nothing'}.",
    ]


def verdict_of(rows: Iterable[comparison.Row]) -> str:
    """Return the worst verdict of several comparisons of a series."""
    verdicts = {row.verdict for row in rows}
    order = (DIFFERENT, comparison.NOT_THERE, comparison.EQUAL, ONLY_HERE, comparison.NOT_TOLD)
    return next(verdict for verdict in order if verdict in verdicts)


SUMMARY_HEAD = (
    *("phase", "series", "equal", "DIFFERENT", "MISSING", "only ours", "of no value"),
    *("comparisons", "values of containers", "of these DIFFERENT", "faults"),
)


def summary(result: Result) -> tuple[str, ...]:
    """Return the cells of a phase for the table of `SUMMARY_HEAD`, over both sets of names."""
    by_series: dict[str, list[comparison.Row]] = {}
    for row in result.device_rows:
        by_series.setdefault(row.series, []).append(row)
    counts = Counter(map(verdict_of, by_series.values()))
    verdicts = (
        *(comparison.EQUAL, DIFFERENT, comparison.NOT_THERE),
        *(ONLY_HERE, comparison.NOT_TOLD),
    )
    of_containers = [row.verdict for row in result.container_rows]
    return (
        result.title,
        str(len(by_series)),
        *(str(counts[verdict]) for verdict in verdicts),
        str(sum(bool(row.ours and row.theirs) for row in result.device_rows)),
        str(len(of_containers)),
        str(of_containers.count(DIFFERENT)),
        str(len(result.faults)),
    )


def _energy(
    samples: Sequence[Sequence[Sample]],
    scrapes: Sequence[Scrape],
    sampler: nvidia_smi.Sampler,
    faults: list[str],
) -> Iterator[str]:
    """Yield lines on the counter of energy, which nvidia-smi does not print."""
    names = [name for name, (field, _) in series_names().items() if field.key == ENERGY]
    for name in names:
        presented = series_names()[name][1]
        for gpu, readings in sorted(sampler.readings.items()):
            # Scrapes between two passes have equal values: only the first one of each counts.
            counter: list[tuple[float, float]] = []
            for scrape, of_scrape in zip(scrapes, samples, strict=True):
                for value in _values([of_scrape], name, gpu):
                    joules = value / presented.factor
                    if not counter or counter[-1][1] != joules:
                        counter.append((scrape.time, joules))
            watts = readings.get("query power.draw.average") or readings.get("query power.draw", [])
            result = comparison.energy(counter, watts)
            if result is None:
                continue
            verdict = "plausible" if result.is_plausible else "NOT PLAUSIBLE"
            yield (
                f"`{name}` of GPU {gpu} grew by {result.joules:.0f} J; by nvidia-smi's power "
                f"{result.low:.0f} to {result.high:.0f} J: {verdict}"
            )
            if not result.is_plausible:
                faults.append(f"{name} of GPU {gpu}: {result}")


def not_told(rows: Sequence[comparison.Row]) -> list[str]:
    """Return the names of both sets that have no series here."""
    given = {row.series for row in rows if row.ours}
    return sorted({row.series for row in rows} - given)
