# SPDX-License-Identifier: Apache-2.0
"""Pods on the GPUs of a machine with several: each gets its own, also with MPS."""

from __future__ import annotations

import re
from signal import SIGKILL

from tests.gpu.kubernetes import pods
from tests.gpu.kubernetes.gpu_node import facts_of
from tests.gpu.kubernetes.mps_daemons import FAILED, ROOT, SERVES, WORK
from tests.gpu.kubernetes.page import Lines, block, ended, require
from tests.gpu.kubernetes.plugin import Plugin
from tests.gpu.kubernetes.pods import Ended, gpu_pod, parse_work
from tests.lab.kubernetes.manifests import Manifest
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until


def several_gpus(kubernetes: Standalone) -> Lines:
    """A pod for each GPU, a pod with all, and two pods on each GPU by MPS."""
    count = len(facts_of(kubernetes).properties.gpus)
    if count < 2:
        yield "this machine has one GPU"
        return
    yield from block("nvidia-smi topo -m", kubernetes.node.run("nvidia-smi", "topo", "-m").stdout)
    plugin = Plugin(kubernetes)
    until(lambda: len(plugin.devices_now()) == count, "all GPUs are registered")
    yield f"{count} GPUs, ready after {plugin.ready_seconds:.2f} s"
    ends = pods.run(kubernetes, *(_work(f"one-{number}") for number in range(count)))
    for end in ends:
        yield from ended("a pod for each GPU, at the same time", end)
    require(sorted(_uuids(ends)) == sorted(plugin.devices_now()), "each pod has a GPU of its own")
    (end,) = pods.run(kubernetes, gpu_pod("all", "nvidia-smi", "-L", count=count))
    yield from ended("a pod with all GPUs", end)
    outside = kubernetes.node.run("nvidia-smi", "-L").stdout
    order = re.findall(r"GPU-[0-9a-f-]{36}", outside)
    require(_uuids([end]) == order, "a pod with all GPUs has them in the order of the host")
    if count > 2:
        ends = pods.run(kubernetes, *(_work(f"two-{number}", 2) for number in range(count // 2)))
        for end in ends:
            yield from ended("pods with two GPUs, at the same time", end)
        require(sorted(_uuids(ends)) == sorted(order), "no GPU is in two pods")
    plugin.stop()
    yield from _by_mps(kubernetes, count)


def _by_mps(kubernetes: Standalone, count: int) -> Lines:
    """Share each GPU by a daemon of its own, and end one of the daemons."""
    plugin = Plugin(kubernetes, replicas=2, by="mps")
    plugin.wait_for(SERVES, count)
    until(lambda: len(plugin.devices_now()) == 2 * count, "all replicas are registered")
    yield from block("the plugin", plugin.process.text())
    ends = pods.run(kubernetes, *(_work(f"mps-{number}") for number in range(2 * count)))
    for end in ends:
        yield from ended("two pods on each GPU by MPS, at the same time", end)
    uuids = _uuids(ends)
    require({uuids.count(uuid) for uuid in uuids} == {2}, "each GPU has two pods")
    shares = {parse_work(end.text).multiprocessors for end in ends}
    yield f"multiprocessors that the pods see: {sorted(map(str, shares))}"
    pids = _daemons(kubernetes)
    require(len(pids) == count, "each GPU has a daemon")
    serving = plugin.process.text().count(SERVES)
    kubernetes.node.run("kill", "-KILL", pids[0])
    plugin.wait_for(FAILED)
    least = until(
        lambda: len(plugin.devices_now()) if len(plugin.devices_now()) < 2 * count else 0,
        "the replicas of a GPU are taken out",
    )
    require(least == 2 * count - 2, "the daemon of a GPU concerns no other GPU")
    plugin.wait_for(SERVES, serving + 1)
    until(lambda: len(plugin.devices_now()) == 2 * count, "the replicas are offered again")
    yield from block("the plugin, after a daemon was killed", plugin.process.text())
    plugin.stop()
    for pid in _daemons(kubernetes):
        kubernetes.node.run("kill", f"-{int(SIGKILL)}", pid)


def _work(name: str, gpus: int = 1) -> Manifest:
    return gpu_pod(name, "/bin/sh", "-c", f"nvidia-smi -L; {WORK} 4 60 64", count=gpus)


def _uuids(ends: list[Ended]) -> list[str]:
    """Return the GPUs that the pods list, in their order."""
    return [uuid for end in ends for uuid in re.findall(r"GPU-[0-9a-f-]{36}", end.text)]


def _daemons(kubernetes: Standalone) -> list[str]:
    command = f"for f in {ROOT}/GPU-*/pipe/nvidia-cuda-mps-control.pid; do cat $f; echo; done"
    return kubernetes.node.run("sh", "-c", command).stdout.split()
