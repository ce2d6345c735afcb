# SPDX-License-Identifier: Apache-2.0
"""Row ``device-plugin``: answers to the kubelet, start, memory and idle time, beside NVIDIA's plugin.

Eight GPUs of a fake host with ten replicas each; both plugins run at the same time, each in a node of
the lab, and are asked in turns by the same client. The NVML is a mock, which answers at once.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench.contest import Bar, Lap, Line, exact, wall_bar
from tests.fakehost import hosts
from tests.kubernetes.kubelet import Kubelet, Plugin
from tests.lab.kubernetes import nvidia_device_plugin, packages
from tests.lab.kubernetes.node import Node, node
from tests.lab.kubernetes.process import SHARED, Process
from tests.lab.kubernetes.waiting import until

GPU = "nvidia.com/gpu"
CALLS = 100
"""Calls of each plugin in a round."""
REPLICAS = 10
CONFIG = f"""\
version: v1
sharing:
  timeSlicing:
    resources:
    - name: {GPU}
      replicas: {REPLICAS}
"""

ALLOCATE, ALLOCATE_P99 = 1.0, 1.0
READY = 0.5
MEMORY_MIB = 60.0
IDLE_SECONDS = 60
IDLE_PERCENT = 0.1


class Contestant(NamedTuple):
    """A plugin's node, kubelet and command."""

    machine: Node
    kubelet: Kubelet
    command: tuple[str, ...]
    environment: dict[str, str]
    devices: int

    def start(self) -> Process:
        """Start the plugin, and wait until all devices are there."""
        self.kubelet.plugins.clear()
        process = self.machine.start("plugin", *self.command, env=self.environment)
        until(lambda: len(self.kubelet.devices(GPU)) == self.devices, "the plugin registers")
        return process


def device_plugin(runs: int) -> Iterator[Line]:
    """Start, answers and memory."""
    with contextlib.ExitStack() as stack:
        ours, nvidia = (contestant(stack, name) for name in ("ours", "nvidia"))
        starts: dict[str, list[Lap]] = {"ours": [], "nvidia": []}
        running: list[Process] = []
        for number in range(runs + 1):
            for name, plugin in (("ours", ours), ("nvidia", nvidia)):
                started = time.perf_counter()
                process = plugin.start()
                lap = Lap((time.perf_counter() - started) * 1000, 0.0, 0.0)
                if number == runs:
                    running.append(process)  # the one that answers
                    continue
                starts[name].append(lap)
                process.stop()
        bar = wall_bar("ratio of starts", starts["ours"], starts["nvidia"], READY)
        yield Line(
            "device-plugin", "start until 80 devices", starts["ours"], starts["nvidia"], bars=(bar,)
        )
        yield from _answers(runs, ours.kubelet.plugins[GPU], nvidia.kubelet.plugins[GPU])
        yield _memory(ours, nvidia, *running)
        yield _idle(ours, nvidia, *running)


def _answers(runs: int, ours: Plugin, nvidia: Plugin) -> Iterator[Line]:
    generator = random.Random(1)
    ids = sorted(ours.devices)
    medians: dict[str, list[Lap]] = {"ours": [], "nvidia": []}
    slowest: dict[str, list[float]] = {"ours": [], "nvidia": []}
    for _ in range(runs + 2):
        for name, plugin in (("ours", ours), ("nvidia", nvidia)):
            times = []
            for _ in range(CALLS):
                chosen = generator.choice(ids)
                started = time.perf_counter()
                plugin.allocate(chosen)
                times.append((time.perf_counter() - started) * 1000)
            times.sort()
            medians[name].append(Lap(times[CALLS // 2], 0.0, 0.0))
            slowest[name] += times
    for times in slowest.values():
        times.sort()
    p99 = {name: times[len(times) * 99 // 100] for name, times in slowest.items()}
    bars = (
        wall_bar("ratio of p50", medians["ours"][2:], medians["nvidia"][2:], ALLOCATE),
        exact("ratio of p99", p99["ours"] / p99["nvidia"], ALLOCATE_P99),
    )
    note = f"p99 {p99['ours']:.2f} ms, NVIDIA's {p99['nvidia']:.2f} ms"
    yield Line(
        "device-plugin",
        "Allocate",
        medians["ours"][2:],
        medians["nvidia"][2:],
        bars=bars,
        note=note,
    )


def _memory(ours: Contestant, nvidia: Contestant, *processes: Process) -> Line:
    resident = [
        _resident_kib(contestant.machine, process.pid)
        for contestant, process in zip((ours, nvidia), processes, strict=True)
    ]
    laps = [[Lap(0.0, 0.0, kib)] for kib in resident]
    bars: tuple[Bar, ...] = (exact("resident MiB", resident[0] / 1024, MEMORY_MIB),)
    return Line("device-plugin", "resident memory", laps[0], laps[1], bars=bars)


def _resident_kib(machine: Node, pid: int) -> float:
    text = machine.run("cat", f"/proc/{pid}/status").stdout
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def _idle(ours: Contestant, nvidia: Contestant, *processes: Process) -> Line:
    """Compare the processor time of plugins that nobody asks anything."""
    pairs = list(zip((ours, nvidia), processes, strict=True))
    before = [_processor_ms(contestant.machine, process.pid) for contestant, process in pairs]
    time.sleep(IDLE_SECONDS)
    used = [
        _processor_ms(contestant.machine, process.pid) - start
        for (contestant, process), start in zip(pairs, before, strict=True)
    ]
    laps = [[Lap(0.0, milliseconds, 0.0)] for milliseconds in used]
    percent = [milliseconds / IDLE_SECONDS / 10 for milliseconds in used]
    note = f"{percent[0]:.3f} % of a processor, NVIDIA's {percent[1]:.3f} %"
    bars = (exact("percent of a processor", percent[0], IDLE_PERCENT),)
    case = f"idle for {IDLE_SECONDS} s"
    return Line("device-plugin", case, laps[0], laps[1], bars=bars, note=note)


def _processor_ms(machine: Node, pid: int) -> float:
    text = machine.run("sh", "-c", f"cat /proc/{pid}/task/*/schedstat").stdout
    return sum(int(line.split()[0]) for line in text.splitlines()) / 1e6


def contestant(
    stack: contextlib.ExitStack, name: str, host: str = "550-8gpu", replicas: int = REPLICAS
) -> Contestant:
    """Return a plugin, ``ours`` or ``nvidia``, in a node with its kubelet.

    Args:
        stack: ends the node and the kubelet.
        name: which plugin.
        host: the fake host.
        replicas: of each GPU; 1: GPUs are not shared.
    """
    fake = hosts.cached(host)
    machine = stack.enter_context(node(**nvidia_device_plugin.furniture(fake)))
    machine.device_plugins.mkdir(parents=True, exist_ok=True)
    config = CONFIG if replicas > 1 else "version: v1\n"
    Path(machine.shared, "config.yaml").write_text(config, "utf-8")
    kubelet = Kubelet(machine.device_plugins)
    kubelet.start()
    stack.callback(kubelet.stop)
    options = {"CONFIG_FILE": f"{SHARED}/config.yaml", "DEVICE_LIST_STRATEGY": "cdi-cri"}
    options |= nvidia_device_plugin.ENVIRONMENT
    devices = len(hosts.HOSTS[host].gpus) * replicas
    if name == "nvidia":
        return Contestant(machine, kubelet, nvidia_device_plugin.DEVICE_PLUGIN, options, devices)
    command = (*packages.CDI_GEN, "kubernetes", "device-plugin")
    # An installation has compiled modules.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{SHARED}/pycache"}
    environment = packages.ENVIRONMENT | compiled | options
    return Contestant(machine, kubelet, command, environment, devices)
