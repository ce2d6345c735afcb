# SPDX-License-Identifier: Apache-2.0
"""Compares the families of containers, and all labels, with the containers that run. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tests.gpu.metrics.comparison import DIFFERENT, EQUAL, span
from tests.gpu.metrics.exporter import Sample
from tests.gpu.metrics.loads import IDLE, MATMUL, Loaded, memory_of
from tests.gpu.metrics.nvidia_smi import ProcessSample

MIB = 2**20
PREFIX = "cdi_gen_container_gpu_"


class Row(NamedTuple):
    """A series of a container beside what nvidia-smi tells of its processes."""

    container: str
    series: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    place: str
    margin: float

    @property
    def verdict(self) -> str:
        """Whether our median is in nvidia-smi's range, or within the margin of it."""
        if not self.ours or not self.theirs:
            return EQUAL if not self.ours and not self.theirs else DIFFERENT
        low, high = min(self.theirs) - self.margin, max(self.theirs) + self.margin
        return EQUAL if low <= median(self.ours) <= high else DIFFERENT


def rows(
    loads: Sequence[Loaded],
    scrapes: Sequence[Sequence[Sample]],
    listed: Iterable[ProcessSample],
    monitored: Iterable[ProcessSample],
) -> list[Row]:
    """Return the comparison of each container.

    Args:
        loads: the containers that run.
        scrapes: the samples of each scrape.
        listed: lines of `--query-compute-apps`.
        monitored: lines of pmon.
    """
    listed, monitored = list(listed), list(monitored)
    result = []
    for loaded in loads:
        name = loaded.load.name
        memory = [
            memory_of(loaded, {sample.pid: sample.memory})
            for sample in listed
            if sample.pid in loaded.pids and sample.memory is not None
        ]
        busy = [(sample.sm or 0.0) / 100 for sample in monitored if sample.pid in loaded.pids]
        # pmon prints "-" for a process that did nothing in the second.
        result += [
            Row(
                name,
                "memory_used_bytes",
                _values(loaded, scrapes, "memory_used_bytes"),
                tuple(memory),
                "--query-compute-apps",
                MIB,
            ),
            Row(
                name,
                "utilization_ratio",
                _values(loaded, scrapes, "utilization_ratio"),
                tuple(busy),
                "pmon, sm",
                max(0.05, max(busy, default=0) - min(busy, default=0)),
            ),
            Row(
                name,
                "processes",
                _values(loaded, scrapes, "processes"),
                tuple({float(len({s.pid for s in listed if s.pid in loaded.pids}))}),
                "--query-compute-apps",
                0,
            ),
        ]
    return result


def _values(loaded: Loaded, scrapes: Sequence[Sequence[Sample]], end: str) -> tuple[float, ...]:
    return tuple(
        sample.value
        for samples in scrapes
        for sample in samples
        if sample.name == f"{PREFIX}{end}" and sample.labels.get("container_id") == loaded.id
    )


def label_faults(
    loads: Sequence[Loaded], samples: Iterable[Sample], device_series: frozenset[str]
) -> list[str]:
    """Return what is wrong with the labels of one scrape.

    Args:
        loads: the containers that run.
        samples: the scrape.
        device_series: the names of the series for devices.
    """
    faults = []
    by_gpu: dict[str, list[Loaded]] = {}
    for loaded in loads:
        by_gpu.setdefault(str(loaded.load.gpu.index), []).append(loaded)
    wrong: dict[tuple[str, str, str], int] = {}
    seen = set()
    for sample in samples:
        gpu = sample.labels.get("gpu", "")
        holders = by_gpu.get(gpu, [])
        if sample.name in device_series:
            expected = holders[0].load.name if len(holders) == 1 else ""
            actual = sample.labels.get("container", "")
            if actual != expected:
                key = (gpu, actual, expected)
                wrong[key] = wrong.get(key, 0) + 1
        elif sample.name == f"{PREFIX}held":
            identity = sample.labels.get("container_id", "")
            seen.add((identity, gpu))
            faults += _container_faults(sample.labels, identity, gpu, loads)
    faults += [
        f"{count} device series of GPU {gpu} have the container {actual!r}, expected {expected!r}"
        for (gpu, actual, expected), count in wrong.items()
    ]
    for loaded in loads:
        if (loaded.id, str(loaded.load.gpu.index)) not in seen:
            faults.append(f"{loaded.load.name} has no {PREFIX}held for GPU {loaded.load.gpu.index}")
    return faults


def _container_faults(
    labels: Mapping[str, str], identity: str, gpu: str, loads: Iterable[Loaded]
) -> list[str]:
    loaded = next((loaded for loaded in loads if loaded.id == identity), None)
    if loaded is None:
        return [f"a series of the container {identity!r}, which was not started here"]
    if str(loaded.load.gpu.index) != gpu:
        return [f"{loaded.load.name} has a series of GPU {gpu}, which it was not given"]
    expected = {"engine": loaded.engine, "UUID": loaded.load.gpu.uuid}
    if loaded.engine == "podman":
        expected["name"] = loaded.load.name
    return [
        f"{loaded.load.name}: label {key}: {labels.get(key)!r}, expected {value!r}"
        for key, value in expected.items()
        if labels.get(key) != value
    ]


def load_faults(loads: Sequence[Loaded], table: Iterable[Row]) -> list[str]:
    """Return what differs from the loads that were started: never a guess, idle is 0."""
    by_container = {(row.container, row.series): row for row in table}
    faults = []
    for loaded in loads:
        name, gibibytes = loaded.load.name, loaded.load.gibibytes
        memory = by_container[name, "memory_used_bytes"].ours
        if not memory or not gibibytes <= median(memory) / 2**30 <= gibibytes + 3:
            faults.append(f"{name}: {span(memory)} bytes, but it has allocated {gibibytes:g} GiB")
        utilization = by_container[name, "utilization_ratio"].ours
        if loaded.load.kind == IDLE and set(utilization) != {0.0}:
            faults.append(f"{name} is idle, but its utilisation is {span(utilization)}")
        if loaded.load.kind == MATMUL and (not utilization or median(utilization) < 0.5):
            faults.append(
                f"{name} computes without a pause, but its utilisation is {span(utilization)}"
            )
    return faults
