# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.metrics.soak``: `cdi-gen metrics` for an hour on a host that changes all the time.

GPUs hang, are lost and come back, the driver is unloaded and loaded, Xid errors and clock events
come, containers of crun come and go, two programs scrape. A table shows the memory, the descriptors,
the threads and the CPU of the service; at the end memory and descriptors must be as at the
beginning, every GPU must be measured again, and no series of a container that ended may be left.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.fakehost import hosts
from tests.fakehost.nvml_mock import DRIVER_NOT_LOADED, GPU_IS_LOST
from tests.fakehost.nvml_values import CLOCK_REASONS, set_typical
from tests.lab.engines import Started
from tests.metrics import gpu_lab
from tests.metrics.gpu_lab import GpuLab

GPUS = 8
MOST_CONTAINERS = 40
STEP_SECONDS = 5
ROW_SECONDS = 60
SETTLED = 10
"""Rows at the beginning that do not count: caches fill, and the interpreter's heap grows."""
GROWTH_KIB = 1024
SCRAPE_SECONDS = 1.0
MIB = 1 << 20

HEAD = (
    f"{'min':>5} {'RSS KiB':>8} {'own KiB':>8} {'fds':>4} {'threads':>7} {'CPU %':>6} "
    f"{'scrapes':>8} {'failed':>6} {'p99 ms':>7} {'max ms':>7} {'containers':>10}  events"
)


class Host:
    """The host, and what happens on it: one event in each step, in turns."""

    def __init__(self, lab: GpuLab) -> None:
        self.lab = lab
        self.nodes = lab.nodes()
        self.containers: list[tuple[str, str, int]] = []
        """Name, GPU and first process of those that run, the oldest first."""
        self.started = 0
        self.xids = 0
        self.events: dict[str, int] = {}
        for device in self.nodes:
            set_typical(lab.values, device, int(device))

    def steps(self) -> Iterator[Callable[[], str]]:
        """Yield what happens next, without an end."""
        number = 0
        while True:
            gpu = str(number % GPUS)
            yield self.replace_containers
            yield lambda gpu=gpu: self.hang(gpu)  # type: ignore[misc]
            yield self.replace_containers
            yield lambda number=number: self.measure(number)  # type: ignore[misc]
            yield lambda gpu=gpu: self.recover(gpu)  # type: ignore[misc]
            yield lambda gpu=gpu: self.raise_xid(gpu)  # type: ignore[misc]
            yield self.replace_containers
            yield lambda gpu=gpu: self.lose(gpu)  # type: ignore[misc]
            yield lambda gpu=gpu: self.clock_event(gpu)  # type: ignore[misc]
            yield lambda gpu=gpu: self.recover(gpu)  # type: ignore[misc]
            yield self.write_spec
            if number % 3 == 2:
                yield self.unload
                yield self.replace_containers
                yield self.load
            number += 1

    def replace_containers(self) -> str:
        """Start three containers, and end the oldest if there are many."""
        new = {}
        for _ in range(3):
            device = str(self.started % GPUS)
            new[f"web-{self.started}"] = device
            self.started += 1
        pids = self.lab.run({name: self.nodes[device] for name, device in new.items()})
        for name, device in new.items():
            self.lab.values.run(device, pids[name], memory=256 * MIB, sm=5)
            self.containers.append((name, device, pids[name]))
        while len(self.containers) > MOST_CONTAINERS:
            name, device, pid = self.containers.pop(0)
            self.lab.values.end(device, pid)
            self.lab.delete(name)
        return "containers"

    def measure(self, number: int) -> str:
        """Change values of all GPUs."""
        for device in self.nodes:
            self.lab.values.set(
                device,
                power=300_000 + number * 1000,
                utilization_gpu=number % 100,
                temperature=40 + number % 40,
            )
        return "values"

    def hang(self, gpu: str) -> str:
        """Let a GPU hang."""
        self.lab.values.hang(gpu)
        return "hang"

    def lose(self, gpu: str) -> str:
        """Let a GPU fall off the bus."""
        self.lab.values.fail(gpu, GPU_IS_LOST)
        return "lost"

    def recover(self, gpu: str) -> str:
        """Let a GPU answer again."""
        self.lab.values.recover(gpu)
        return "back"

    def raise_xid(self, gpu: str) -> str:
        """Report an Xid error."""
        self.xids += 1
        self.lab.values.raise_xid(gpu, 31)
        return "xid"

    def clock_event(self, gpu: str) -> str:
        """Begin or end a reason for lower clocks."""
        reason = "hw_slowdown" if self.xids % 2 else "sw_power_cap"
        self.lab.values.set(gpu, clock_reasons=CLOCK_REASONS[reason])
        return "clocks"

    def write_spec(self) -> str:
        """Write the spec again, which is examined then."""
        self.lab.cdi_gen("generate", "--hooks=none", "--output", "/etc/cdi/nvidia.json")
        return "spec"

    def unload(self) -> str:
        """Unload the driver."""
        self.lab.values.fail("*", DRIVER_NOT_LOADED)
        return "unload"

    def load(self) -> str:
        """Load the driver."""
        self.lab.values.recover("*")
        return "load"


def soak(lab: GpuLab, minutes: float, interval: str) -> list[str]:
    """Run the service so long, and print the table; return what is wrong at the end."""
    host = Host(lab)
    host.replace_containers()
    running = lab.start_service(interval=interval)
    pid = str(running.pid)
    lab.probe("wait", pid)
    seconds = minutes * 60
    loads = [
        lab.inside.start(
            ["/usr/bin/python3", "-I", "/srv/probe.py", "load", str(seconds + 600), encoding],
            log=f"/var/log/load-{encoding}.log",
        )
        for encoding in ("identity", "gzip")
    ]
    print(HEAD, flush=True)
    rows = list(_rows(lab, host, pid, seconds))
    for load in loads:
        load.signal(signal.SIGTERM)
    return [*_growth(rows), *_end(lab, host, running)]


def _rows(lab: GpuLab, host: Host, pid: str, seconds: float) -> Iterator[dict[str, Any]]:
    steps = host.steps()
    start = time.monotonic()
    last = lab.probe("state", pid)
    next_row, next_step = start + ROW_SECONDS, start
    while time.monotonic() < start + seconds:
        time.sleep(max(0.0, next_step - time.monotonic()))
        next_step += STEP_SECONDS
        event = next(steps)()
        host.events[event] = host.events.get(event, 0) + 1
        if time.monotonic() >= next_row:
            next_row += ROW_SECONDS
            state = lab.probe("state", pid)
            used = sum(state[key] - last[key] for key in ("cpu", "cpu_of_children"))
            state["percent"] = 100 * used / (state["time"] - last["time"])
            state |= lab.probe("loads")
            last = state
            minute = (time.monotonic() - start) / 60
            print(_line(minute, state, host), flush=True)
            yield state


def _line(minute: float, state: dict[str, Any], host: Host) -> str:
    events = " ".join(f"{name}:{count}" for name, count in sorted(host.events.items()))
    return (
        f"{minute:5.1f} {state['rss']:8} {state['anonymous']:8} {state['descriptors']:4} "
        f"{state['threads']:7} {state['percent']:6.2f} {state['scrapes']:8} {state['failed']:6} "
        f"{state['p99'] * 1000:7.1f} {state['slowest'] * 1000:7.1f} {host.started:10}  {events}"
    )


def _growth(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    settled = rows[SETTLED:] or rows
    quarter = max(1, len(settled) // 4)
    for key, limit in (("anonymous", GROWTH_KIB), ("descriptors", 1), ("threads", 1)):
        first = median(row[key] for row in settled[:quarter])
        last = median(row[key] for row in settled[-quarter:])
        print(f"{key}: median of the first quarter {first:.0f}, of the last {last:.0f}")
        if last - first > limit:
            yield f"{key} grew from {first:.0f} to {last:.0f}"
    if rows and rows[-1]["failed"]:
        yield f"{rows[-1]['failed']} scrapes failed"
    if rows and rows[-1]["p99"] > SCRAPE_SECONDS:
        yield f"p99 of the scrapes is {rows[-1]['p99']:.2f} s"


def _end(lab: GpuLab, host: Host, running: Started) -> Iterator[str]:
    """Yield what the last scrape has and should not have, or otherwise."""
    for device in ("*", *host.nodes):
        lab.values.recover(device)
    ended = [name for name, _, _ in host.containers[5:]]
    lab.delete(*ended)
    for name, device, pid in host.containers[5:]:
        lab.values.end(device, pid)
        del name
    expected = {name for name, _, _ in host.containers[:5]}
    deadline = time.monotonic() + 120
    faults = ["not asked"]
    while faults and time.monotonic() < deadline:
        time.sleep(1)
        faults = [*_faults(lab.probe("text")["text"], expected, host)]
    yield from faults
    if running.returncode() is not None:
        yield f"the service ended with {running.returncode()}"


def _faults(text: str, expected: set[str], host: Host) -> Iterator[str]:
    measured = set(re.findall(r'^DCGM_FI_DEV_GPU_TEMP\{gpu="(\d+)"', text, re.MULTILINE))
    if len(measured) != GPUS:
        yield f"{len(measured)} GPUs are measured"
    shown = set(re.findall(r'container_id="([^"]+)"', text))
    if shown != expected:
        yield f"the containers are {sorted(shown)}, not {sorted(expected)}"
    for name in ("cdi_gen_spec_stale", "cdi_gen_doctor_checks"):
        if not re.search(rf"^{name}\b", text, re.MULTILINE):
            yield f"{name} is absent"


def main() -> int:
    """Run the soak; return 1 if something is wrong at its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.metrics.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--interval", default="5s", help="of the service (default: 5s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cdi-gen-soak-") as folder:
        fake = hosts.build("550-8gpu", Path(folder, "host"))
        with gpu_lab.enter(fake, Path(folder)) as lab:
            faults = soak(lab, options.minutes, options.interval)
            if faults:
                print(lab.inside.read("/var/log/metrics.log")[-3000:])
    print("\n".join(faults) or "memory and descriptors are flat, and all is measured")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
