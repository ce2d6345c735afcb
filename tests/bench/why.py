# SPDX-License-Identifier: Apache-2.0
"""Row ``why``: one GPU and every GPU of a healthy host, for four engines."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.contest import ENVIRONMENT, Line, Step, exact, race
from tests.bench.installed import environment
from tests.fakehost import hosts

SECONDS = 0.3
HOST = "550-8gpu"
ENGINES = ("podman@5.4.2", "docker@28.5.2", "containerd@2.1.9", "nerdctl@2.1.2")


def why(runs: int) -> Iterator[Line]:
    """The whole program, for four engines; the bar is on the slowest run."""
    program = str(environment() / "cdi-gen")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "host")
        hosts.build(HOST, root)
        spec = str(root / "etc/cdi/nvidia.json")
        subprocess.run(
            [program, "-q", "generate", "--host-root", str(root), "-o", spec],
            env=ENVIRONMENT,
            check=True,
        )

        def step(device: str) -> list[Step]:
            engines = [word for engine in ENGINES for word in ("--engine", engine)]
            argv = [program, "why", device, *engines, "--host-root", str(root)]
            return [{"argv": argv, "env": ENVIRONMENT}]

        cases = {
            "why, healthy, 8 GPUs, 4 engines": step("nvidia.com/gpu=0"),
            "why, every GPU, 4 engines": step("nvidia.com/gpu=all"),
        }
        laps = race(cases, runs)
    for case in cases:
        slowest = max(lap.wall for lap in laps[case]) / 1000
        bar = exact("seconds, slowest run", slowest, SECONDS)
        yield Line("why", case, laps[case], bars=(bar,))
