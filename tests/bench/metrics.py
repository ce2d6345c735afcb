# SPDX-License-Identifier: Apache-2.0
"""Row ``metrics``: `cdi-gen metrics` beside containers of crun, on fake GPUs with a mock of NVML.

Idle time, memory, scrapes, and what a pass and the text of a large host cost. A pass reads all values
that an H100 has; the mock answers at once, NVML does not.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.contest import Lap, Line, exact
from tests.fakehost import hosts
from tests.fakehost.gpus import split
from tests.fakehost.nvml_values import set_typical
from tests.lab.engines import Started
from tests.lab.kubernetes import packages
from tests.lab.kubernetes.waiting import until
from tests.metrics import gpu_lab
from tests.metrics.gpu_lab import GpuLab

CONTAINERS = (20, 200)
SETTLE_SECONDS = 60
IDLE_SECONDS = 180
IDLE_PERCENT = 0.5
EXAMINED_EACH = 600
"""Seconds between two examinations of a host on which nothing changes."""
MEMORY_MIB = 60.0
SCRAPES = 300
SCRAPE_P99_MS = 50.0
SCRAPE_CPU_MS = 100.0
LARGE = "550-mig112"
LARGE_CONTAINERS = 160
PASS_INTERVAL = 2.0
PASS_SECONDS = 60
MIB = 1 << 20
LAPS = 5
MODULES = (
    "cdi_gen.cli.metrics",
    "cdi_gen.cli.metrics_serving",
    "cdi_gen.metrics.collection",
    "cdi_gen.metrics.families",
    "cdi_gen.metrics.own.families",
    "cdi_gen.metrics.own.schedule",
    "cdi_gen.metrics.routes",
    "cdi_gen.metrics.web.server",
    "cdi_gen.telemetry.telemetry",
)
_TIMED = """
import os, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
times = os.times()
print(times.children_user + times.children_system)
"""


def metrics(runs: int) -> Iterator[Line]:
    """All lines."""
    for count in CONTAINERS:
        with service("550-8gpu", count) as (lab, running):
            case = f"8 GPUs, {count} containers"
            if count == CONTAINERS[0]:
                yield _imports(lab)
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
    """Measure the passes, and add the examinations of an hour in which nothing changes."""
    pid = str(running.pid)
    # The first examinations have ended, and nothing is examined again in this time. New containers
    # are looked at again in the first passes.
    until(lambda: 'examinations_total{examination="doctor"}' in lab.probe("text")["text"], "doctor")
    time.sleep(SETTLE_SECONDS)
    answer = lab.probe("idle", pid, str(IDLE_SECONDS))
    before, after = answer["before"], answer["after"]
    passes = 100 * (after["cpu"] - before["cpu"]) / (after["time"] - before["time"])
    examinations = 100 * _examinations(lab) / EXAMINED_EACH
    bars = (
        exact("percent of a processor", passes + examinations, IDLE_PERCENT),
        exact("resident MiB", after["rss"] / 1024, MEMORY_MIB),
    )
    note = f"passes {passes:.3f} %, examinations {examinations:.3f} %; {_sizes(after)}"
    laps = [Lap(0.0, (passes + examinations) * IDLE_SECONDS * 10, after["rss"])]
    return Line("metrics", f"idle for {IDLE_SECONDS} s: {case}", laps, bars=bars, note=note)


def _examinations(lab: GpuLab) -> float:
    """Return the CPU of one examination of the specs and one by doctor, with compiled modules."""
    words = ("metrics", "--once", "--examine")
    both = (*packages.CDI_GEN, *words, "specs", "--examine", "doctor")
    return min(_cpu_seconds(lab, both)) - min(
        _cpu_seconds(lab, (*packages.CDI_GEN, *words, "none"))
    )


def _imports(lab: GpuLab) -> Line:
    """Measure what the service loads, less the interpreter."""
    python = ("/usr/bin/python3", "-c")
    modules = "import " + ", ".join(MODULES)
    laps = [
        [Lap(0.0, seconds * 1000, 0.0) for seconds in _cpu_seconds(lab, (*python, code))]
        for code in (modules, "pass")
    ]
    cpu = min(lap.cpu for lap in laps[0]) - min(lap.cpu for lap in laps[1])
    return Line("metrics", "imports of the service", laps[0], note=f"{cpu:.0f} ms of CPU")


def _cpu_seconds(lab: GpuLab, command: Sequence[str]) -> list[float]:
    """Return the CPU of some runs of a command."""
    program = ("python3", "-c", _TIMED, *command)
    return [float(lab.inside.run(program, env=gpu_lab.ENVIRONMENT).stdout) for _ in range(LAPS)]


def _passes(lab: GpuLab, running: Started, case: str) -> Line:
    answer = lab.probe("idle", str(running.pid), str(PASS_SECONDS))
    before, after = answer["before"], answer["after"]
    share = (after["cpu"] - before["cpu"]) / (after["time"] - before["time"])
    cpu = share * PASS_INTERVAL * 1000
    laps = [Lap(0.0, cpu, after["rss"])]
    bars = (exact("resident MiB", after["rss"] / 1024, MEMORY_MIB),)
    note = f"CPU of a pass and its text; {_sizes(after)}"
    return Line("metrics", f"pass: {case}", laps, bars=bars, note=note)


def _sizes(state: dict[str, Any]) -> str:
    return (
        f"RSS {state['rss'] / 1024:.1f} MiB, of its own {state['anonymous'] / 1024:.1f}, "
        f"{state['threads']} threads, {state['descriptors']} descriptors"
    )
