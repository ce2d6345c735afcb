# SPDX-License-Identifier: Apache-2.0
"""Rows ``generate`` and ``minimum``: the whole program, and the share of Python and click."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench import nvidia_ctk
from tests.bench.contest import ENVIRONMENT, Lap, Line, Step, exact, race, wall_bar
from tests.bench.installed import environment
from tests.fakehost import hosts

CASES = {
    "550-1gpu": ("1 GPU", None),
    "550-8gpu": ("8 GPUs", 1.2),
    "550-16gpu": ("16 GPUs", 0.7),
    "550-mig56": ("56 MIG devices on 8 GPUs", 0.4),
}
"""By fake host: its description, and how long cdi-gen may take as a share of nvidia-ctk's time."""

PEAK_MIB = 48
FLAT = 1.15
"""How much longer 16 full GPUs may take than one."""

OURS = ("cdi_gen", "cdi_specs")


def _generate(bin_: Path, host: hosts.FakeHost) -> Step:
    return {
        "argv": [str(bin_ / "cdi-gen"), "generate", "--host-root", str(host.root)],
        "env": ENVIRONMENT,
    }


def generate(runs: int) -> Iterator[Line]:
    """``generate`` as a whole process, on hosts of all sizes in one race."""
    bin_, nvidia_program = environment(), nvidia_ctk.program()
    runners = {}
    for name in CASES:
        host = hosts.cached(name)
        runners[name] = [_generate(bin_, host)]
        if nvidia_program:
            runners[f"{name}, nvidia"] = [nvidia_ctk.generate(nvidia_program, host)]
    laps = race(runners, runs)
    for name, (case, limit) in CASES.items():
        against = laps.get(f"{name}, nvidia", [])
        bars = []
        if limit and against:
            bars.append(wall_bar("wall ratio", laps[name], against, limit))
        if name == "550-16gpu":
            bars.append(wall_bar("wall, 16 GPUs by 1", laps[name], laps["550-1gpu"], FLAT))
        bars.append(exact("peak MiB", max(lap.peak for lap in laps[name]) / 1024, PEAK_MIB))
        yield Line("generate", f"generate, {case}", laps[name], against, bars=tuple(bars))


def minimum(runs: int) -> Iterator[Line]:
    """The least that a Python program takes, and the time that imports take in ``generate``."""
    bin_ = environment()
    python, ours = str(bin_ / "python"), _generate(bin_, hosts.cached("550-8gpu"))
    commands = {
        "python3 -I -S -c pass": [python, "-I", "-S", "-c", "pass"],
        "python3 -c 'import click'": [python, "-c", "import click"],
        "cdi-gen --version": [str(bin_ / "cdi-gen"), "--version"],
        "cdi-gen generate, 8 GPUs": ours["argv"],
    }
    laps = race(
        {name: [{"argv": argv, "env": ENVIRONMENT}] for name, argv in commands.items()}, runs
    )
    for name, command_laps in laps.items():
        yield Line("minimum", name, command_laps)
    imports = [_import_time(python, ours) for _ in range(min(runs, 10))]
    yield Line(
        "minimum",
        "  of it, imports of cdi_gen's modules",
        [Lap(milliseconds, milliseconds, 0) for milliseconds, _ in imports],
        note=f"{imports[0][1]} modules; by -X importtime, which itself takes time",
    )


def _import_time(python: str, step: Step) -> tuple[float, int]:
    """Milliseconds that importing cdi-gen's own modules took, and the number of the modules."""
    output = subprocess.run(
        [python, "-X", "importtime", *step["argv"]],
        env=step["env"],
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    rows = [line.removeprefix("import time:").split("|") for line in output.splitlines()]
    own = [
        int(row[0]) / 1000
        for row in rows
        if len(row) == 3 and row[2].strip().partition(".")[0] in OURS
    ]
    return sum(own), len(own)
