# SPDX-License-Identifier: Apache-2.0
"""Row ``doctor``: all checks on a healthy host with eight GPUs, and on one without any."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.contest import ENVIRONMENT, Line, Step, exact, race
from tests.bench.installed import environment
from tests.doctor.examining import healthy
from tests.doctor.test_spec_checks import with_its_spec
from tests.fakehost import hosts

SECONDS = 2.0
HOST = "550-8gpu"


def doctor(runs: int) -> Iterator[Line]:
    """The whole program; the bar is on the slowest run."""
    program = str(environment() / "cdi-gen")

    def step(root: Path) -> list[Step]:
        argv = [program, "doctor", "--host-root", str(root)]
        return [{"argv": argv, "env": ENVIRONMENT}]

    with tempfile.TemporaryDirectory() as name:
        root, empty = Path(name, "host"), Path(name, "empty")
        host = hosts.build(HOST, root)
        healthy(root)
        with_its_spec(host)
        empty.mkdir()
        cases = {"doctor, healthy, 8 GPUs": step(root), "doctor, no GPU, no driver": step(empty)}
        laps = race(cases, runs)
    for case in cases:
        slowest = max(lap.wall for lap in laps[case]) / 1000
        bar = exact("seconds, slowest run", slowest, SECONDS)
        yield Line("doctor", case, laps[case], bars=(bar,))
