# SPDX-License-Identifier: Apache-2.0
"""Row ``metrics``: `cdi-gen metrics` beside containers of crun, on fake GPUs with a mock of NVML.

Idle time, memory, scrapes, and what a pass and the text of a large host cost. A pass reads all values
that an H100 has; the mock answers at once, NVML does not.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.contest import Lap, Line, exact
from tests.fakehost import hosts
from tests.fakehost.gpus import split
from tests.fakehost.nvml_values import set_typical
from tests.lab.engines import Started
from tests.metrics import gpu_lab
from tests.metrics.gpu_lab import GpuLab

CONTAINERS = (20, 200)
IDLE_SECONDS = 180
IDLE_PERCENT = 0.5
MEMORY_MIB = 60.0
SCRAPES = 300
SCRAPE_P99_MS = 50.0
SCRAPE_CPU_MS = 100.0
LARGE = "550-mig112"
LARGE_CONTAINERS = 160
PASS_INTERVAL = 2.0
PASS_SECONDS = 60
MIB = 1 << 20


def metrics(runs: int) -> Iterator[Line]:
    """All lines."""
    for count in CONTAINERS:
        with service("550-8gpu", count) as (lab, running):
            case = f"8 GPUs, {count} containers"
            yield from _scrapes(lab, running, case)
            yield _idle(lab, running, case)
    hosts.HOSTS.setdefault(
        LARGE,
        replace(hosts.HOSTS["550-16gpu"], gpus=tuple(split(index) for index in range(16))),
    )
    with service(LARGE, LARGE_CONTAINERS, f"{PASS_INTERVAL}s") as (lab, running):
        case = f"16 GPUs x 7 MIG, {LARGE_CONTAINERS} containers"
        yield from _scrapes(lab, running, case)
        yield _passes(lab, running, case)


@contextlib.contextmanager
def service(host: str, count: int, interval: str = "15s") -> Iterator[tuple[GpuLab, Started]]:
    """Run the service beside containers that use the GPUs in turns."""
    with tempfile.TemporaryDirectory(prefix="cdi-gen-metrics-") as folder:
        fake = hosts.build(host, Path(folder, "host"))
        with gpu_lab.enter(fake, Path(folder)) as lab:
            nodes = lab.nodes()
            for number, device in enumerate(nodes):
                set_typical(lab.values, device, number % 8)
            for index in {device.partition(":")[0] for device in nodes}:
                set_typical(lab.values, index)
            devices = [*nodes]
            names = {f"web-{number}": devices[number % len(devices)] for number in range(count)}
            pids = lab.run({name: nodes[device] for name, device in names.items()})
            for name, pid in pids.items():
                lab.values.run(names[name], pid, memory=512 * MIB, sm=7)
            running = lab.start_service(interval=interval)
            lab.probe("wait", str(running.pid))
            yield lab, running


def _scrapes(lab: GpuLab, running: Started, case: str) -> Iterator[Line]:
    for encoding in ("identity", "gzip"):
        answer = lab.probe("scrapes", str(running.pid), str(SCRAPES), encoding)
        laps = [Lap(seconds * 1000, 0.0, 0.0) for seconds in answer["seconds"]]
        p99 = laps[len(laps) * 99 // 100].wall
        cpu = answer["cpu"] * 1000
        note = f"p99 {p99:.1f} ms, {cpu:.1f} ms of CPU, {answer['bytes']} bytes"
        bars = (
            exact("p99 in ms", p99, SCRAPE_P99_MS),
            exact("CPU of a scrape in ms", cpu, SCRAPE_CPU_MS),
        )
        yield Line("metrics", f"scrape, {encoding}: {case}", laps, bars=bars, note=note)


def _idle(lab: GpuLab, running: Started, case: str) -> Line:
    answer = lab.probe("idle", str(running.pid), str(IDLE_SECONDS))
    bars = (
        exact("percent of a processor", answer["percent"], IDLE_PERCENT),
        exact("resident MiB", answer["after"]["rss"] / 1024, MEMORY_MIB),
    )
    note = f"{_sizes(answer['after'])}; with the processes that examine specs and host"
    laps = [Lap(0.0, answer["percent"] * IDLE_SECONDS * 10, answer["after"]["rss"])]
    return Line("metrics", f"idle for {IDLE_SECONDS} s: {case}", laps, bars=bars, note=note)


def _passes(lab: GpuLab, running: Started, case: str) -> Line:
    answer = lab.probe("idle", str(running.pid), str(PASS_SECONDS))
    cpu = answer["percent"] / 100 * PASS_INTERVAL * 1000
    laps = [Lap(0.0, cpu, answer["after"]["rss"])]
    bars = (exact("resident MiB", answer["after"]["rss"] / 1024, MEMORY_MIB),)
    note = f"CPU of a pass and its text; {_sizes(answer['after'])}"
    return Line("metrics", f"pass: {case}", laps, bars=bars, note=note)


def _sizes(state: dict[str, Any]) -> str:
    return (
        f"RSS {state['rss'] / 1024:.1f} MiB, of its own {state['private'] / 1024:.1f}, "
        f"{state['threads']} threads, {state['descriptors']} descriptors"
    )
