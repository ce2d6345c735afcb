# SPDX-License-Identifier: Apache-2.0
"""Row ``top``: `cdi-gen top` in a terminal, on fake hosts whose containers use their GPUs."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.contest import Lap, Line, exact
from tests.cli.program import CHECKOUT
from tests.fakehost import hosts
from tests.top.busy_host import BusyHost, Job
from tests.top.conftest import TERM
from tests.top.screen import Session

SIZES = ((8, 50), (16, 300))
SECONDS = 30
PERCENT = 5.0
"""Of a processor, with 8 GPUs and 50 containers at the interval of 1 s."""
MEMORY_MIB = 40.0


def top(runs: int) -> Iterator[Line]:
    """What it costs while all values change once a second."""
    for gpus, containers in SIZES:
        with tempfile.TemporaryDirectory(prefix="cdi-gen-top-") as folder:
            fake = hosts.build(f"550-{gpus}gpu", Path(folder, "host"))
            host = BusyHost(fake, tuple(_job(number, gpus) for number in range(containers)))
            yield _measured(host, f"{gpus} GPUs, {containers} containers", is_large=gpus > 8)


def _job(number: int, gpus: int) -> Job:
    engine = ("docker", "pod", "podman")[number % 3]
    name = f"space/pod-{number}/main" if engine == "pod" else f"job-{number}"
    device = (str(number % gpus),)
    return Job(engine, name, "registry.example/image:1", device, "python train.py", 1.5, 20)


def _measured(host: BusyHost, case: str, *, is_large: bool) -> Line:
    words = (sys.executable, "-m", "cdi_gen", "top", "--host-root", str(host.root))
    environment = {"PATH": os.environ["PATH"], "TERM": TERM, "LANG": "C.UTF-8"}
    with Session(
        words, columns=180, rows=60, environment=environment, cwd=str(CHECKOUT)
    ) as session:
        session.wait_for("job-")
        session.follow(2)
        start, before = time.monotonic(), _cpu(session.pid)
        for step in range(SECONDS):
            host.move(step)
            session.follow(1)
        percent = 100 * (_cpu(session.pid) - before) / (time.monotonic() - start)
        memory = _resident(session.pid)
        session.press("q")
        session.wait_for_end()
    bars = [exact("resident MiB", memory / 1024, MEMORY_MIB)]
    if not is_large:
        bars.append(exact("percent of a processor", percent, PERCENT))
    note = f"{percent:.1f} % of a processor"
    return Line("top", case, [Lap(0.0, percent * 10, memory)], bars=tuple(bars), note=note)


def _cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    """Return the KiB that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
