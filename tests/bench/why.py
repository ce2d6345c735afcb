# SPDX-License-Identifier: Apache-2.0
"""Row ``why``: one GPU and every GPU of a healthy host, for four engines."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.contest import ENVIRONMENT, Line, Step, race, wall_bar
from tests.bench.installed import environment
from tests.fakehost import hosts

WHY = 300 / 6
"""300 ms on a machine where an interpreter that does nothing takes 6 ms."""

HOST = "550-8gpu"
ENGINES = ("podman@5.4.2", "docker@28.5.2", "containerd@2.1.9", "nerdctl@2.1.2")


def why(runs: int) -> Iterator[Line]:
    """The whole program, for four engines."""
    bin_ = environment()
    program = str(bin_ / "cdi-gen")
    bare = {"argv": [str(bin_ / "python"), "-I", "-S", "-c", "pass"], "env": ENVIRONMENT}
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
        laps = race({"bare": [bare], **cases}, runs)
    for case in cases:
        bar = wall_bar("wall, why by the interpreter", laps[case], laps["bare"], WHY)
        yield Line("why", case, laps[case], bars=(bar,))
