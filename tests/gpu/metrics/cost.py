# SPDX-License-Identifier: Apache-2.0
"""What metrics cost on real NVML: a pass, a scrape, a minute without scrapes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.gpu.metrics.exporter import Cost, Exporter
from tests.gpu.programs.container import cdi_gen_environment
from tests.gpu.several.gpus import markdown_table

PASSES = Path(__file__).with_name("inside") / "passes.py"
SCRAPES = 300
INTERVAL = 15
SETTLE_SECONDS = 10
IDLE_PERCENT, MEMORY_MIB, SCRAPE_MS = 0.5, 60, 50
"""The bars: processor time at an interval of 15 s, memory, the 99th percentile of scrapes."""


def passes(count: int, pause: float) -> tuple[list[str], list[str]]:
    """Make passes in a process of its own; return lines of the page, and faults."""
    process = subprocess.run(
        [sys.executable, str(PASSES), str(count), str(pause)],
        env=cdi_gen_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=count * (pause + 5) + 30,
    )
    if process.returncode:
        return [], [f"passes: exit {process.returncode}: {process.stderr.strip()[-500:]}"]
    result = json.loads(process.stdout)
    faults = [f"passes: {result['error']}"] if result["error"] else []
    faults += [f"passes: GPU {gpu}: {fault}" for gpu, fault in result["faults"].items()]
    first, *others = result["passes"]
    number = len(others)
    wall, cpu = (median(values) * 1e3 for values in zip(*others, strict=True))
    calls = sum(result["calls"].values()) / number
    rows = [
        (f"`{name}`", f"{result['calls'][name] / number:.1f}", f"{seconds / number * 1e3:.2f}")
        for name, seconds in sorted(result["seconds"].items(), key=lambda item: -item[1])[:25]
    ]
    line = (
        f"A pass: {wall:.1f} ms, {cpu:.1f} ms of them processor time, {calls:.0f} calls of NVML "
        f"(medians of {number}, {pause:g} s apart); the first one, with NVML's initialisation: "
        f"{first[0] * 1e3:.0f} ms."
    )
    return [
        line,
        "",
        *markdown_table(("the calls that take longest", "a pass", "ms a pass"), rows),
    ], faults


def scrapes(exporter: Exporter) -> tuple[list[str], list[str]]:
    """Scrape many times, each over a new connection."""
    taken = sorted(exporter.scrape().seconds * 1e3 for _ in range(SCRAPES))
    size = len(exporter.scrape().text)
    highest = taken[len(taken) * 99 // 100]
    line = (
        f"{SCRAPES} scrapes of {size / 1024:.0f} KiB, one after the other, each over a new connection: "
        f"median {median(taken):.1f} ms, 99th percentile {highest:.1f} ms, longest {taken[-1]:.1f} ms"
    )
    return [line], _exceeded("the 99th percentile of scrapes, ms", highest, SCRAPE_MS)


def idle(seconds: float) -> tuple[list[str], list[str]]:
    """Measure an exporter that nobody scrapes, while no container runs.

    The processes that examine the host at the start have ended when the measurement begins.
    """
    try:
        with Exporter("--interval", f"{INTERVAL}s") as exporter:
            time.sleep(SETTLE_SECONDS)
            before, start = exporter.cost(), time.monotonic()
            # Whole intervals: as many passes as there are on average.
            time.sleep(max(round(seconds / INTERVAL), 1) * INTERVAL)
            after, wall = exporter.cost(), time.monotonic() - start
    except OSError as error:
        return [], [f"idle: {error}"]
    return idle_text(before, after, wall)


def idle_text(before: Cost, after: Cost, wall: float) -> tuple[list[str], list[str]]:
    """Return lines and faults about two readings of an idle exporter."""
    percent = (after.cpu - before.cpu) / wall * 100
    own = (after.of_process - before.of_process) / wall * 100
    memory = after.memory / 1024
    line = (
        f"**Idle**: {wall:.0f} s at an interval of {INTERVAL} s without a scrape and without a "
        f"container: {percent:.2f} % of a core ({own:.2f} % without the processes that examine "
        f"the host); {memory:.1f} MiB in RAM (peak of the process {after.peak / 1024:.1f}), "
        f"{after.threads} threads, {after.descriptors} descriptors. Before: {before.cpu:.2f} s of "
        f"processor time in the first {SETTLE_SECONDS} s."
    )
    return [line], [
        *_exceeded("processor time, %", percent, IDLE_PERCENT),
        *_exceeded("memory, MiB", memory, MEMORY_MIB),
    ]


def _exceeded(title: str, value: float, bar: float) -> list[str]:
    return [f"{title}: {value:.2f}, the bar is {bar:g}"] if value > bar else []


def parts(results: Sequence[tuple[list[str], list[str]]]) -> tuple[list[str], list[str]]:
    """Join lines and faults."""
    lines: list[str] = []
    faults: list[str] = []
    for part_lines, part_faults in results:
        lines += [*part_lines, ""]
        faults += part_faults
    return lines, faults
