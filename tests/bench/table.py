# SPDX-License-Identifier: Apache-2.0
"""The table as text and as JSON."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.bench import nvidia_ctk
from tests.bench.contest import Bar, Lap, Laps, Line

HEAD = (
    "wall: median/minimum; CPU: median; MiB: most; ratio: median of the rounds' ratios\n\n"
    f"{'':44} {'cdi-gen':^27} {'nvidia-ctk':^27} {'ratio':^11}\n"
    f"{'':44} {'wall ms':>12} {'CPU ms':>8} {'MiB':>5} {'wall ms':>12} {'CPU ms':>9} {'MiB':>5}"
    f" {'wall':>5} {'CPU':>5}"
)
ABSENT = "not on PATH"


def machine() -> dict[str, str]:
    """Facts about the machine of the measurement."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [
            line.partition(": ")[2] for line in file.read().splitlines() if "model name" in line
        ]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{os.cpu_count()} x {names[0] if names else platform.machine()}",
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "nvidia-ctk": nvidia_ctk.version() or ABSENT,
    }


def as_text(line: Line) -> str:
    """A line of the table, with a line below it for each bar and for the note."""
    rows = [f"{line.case:44} {_laps(line.ours)} {_nvidia(line)} {_ratios(line)}".rstrip()]
    rows += [f"    {_bar(bar)}" for bar in line.bars]
    if line.base:
        row = f"    adds {line.added(line.ours, 0):.1f} ms"
        if line.nvidia:
            row += f", nvidia-ctk {line.added(line.nvidia, 0):.1f} ms"
        rows.append(row)
    if line.note:
        rows.append(f"    {line.note}")
    return "\n".join(rows)


def _laps(laps: Laps) -> str:
    wall = [lap.wall for lap in laps]
    cpu = median(lap.cpu for lap in laps)
    peak = max(lap.peak for lap in laps) / 1024
    return (
        f"{median(wall):6.1f}/{min(wall):5.1f} {f'{cpu:.1f}' if cpu else '-':>8} "
        f"{f'{peak:.0f}' if peak else '-':>5}"
    )


def _nvidia(line: Line) -> str:
    if line.nvidia:
        return _laps(line.nvidia)
    return (
        f"{ABSENT:^27}"
        if nvidia_ctk.program() is None and line.row in _AGAINST_NVIDIA
        else f"{'-':^27}"
    )


_AGAINST_NVIDIA = {"generate", "hook", "start", "tree", "shim", "prestart"}


def _ratios(line: Line) -> str:
    return " ".join(
        f"{'-':>5}" if (ratio := line.ratio(which)) is None else f"{ratio:5.2f}" for which in (0, 1)
    )


def _bar(bar: Bar) -> str:
    spread = f" ({bar.low:.2f} to {bar.high:.2f})" if bar.low != bar.high else ""
    return f"{bar.title}: {bar.value:.2f}{spread}, bar {bar.limit:g}: {bar.verdict}"


def as_json(lines: Sequence[Line], facts: dict[str, str]) -> dict[str, Any]:
    """All measurements in the form of the option ``--json``."""
    return {
        "machine": facts,
        "lap": list(Lap._fields),
        "lines": [
            {
                "row": line.row,
                "case": line.case,
                "cdi-gen": line.ours,
                "nvidia-ctk": line.nvidia,
                "base": line.base,
                "ratio": {"wall": line.ratio(0), "cpu": line.ratio(1)},
                "bars": [{**bar._asdict(), "verdict": bar.verdict} for bar in line.bars],
                "note": line.note,
            }
            for line in lines
        ],
    }
