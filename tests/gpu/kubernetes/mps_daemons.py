# SPDX-License-Identifier: Apache-2.0
"""Pods that share a GPU by MPS, with the control daemon that the device plugin keeps."""

from __future__ import annotations

import time
from signal import SIGKILL

from tests.gpu.kubernetes import pods
from tests.gpu.kubernetes.gpu_node import CDI_GEN, environment, facts_of
from tests.gpu.kubernetes.page import Lines, block, compared, ended, require
from tests.gpu.kubernetes.plugin import CONFIG, Plugin
from tests.gpu.kubernetes.pods import gpu_pod, parse_work
from tests.lab.kubernetes.manifests import Manifest
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until

ROOT = "/run/nvidia/mps"
SERVES, FAILED = "[CDG-N223]", "[CDG-N222]"
WORK = "/usr/bin/work"
IDLE_SECONDS = 30


def shell(name: str, *commands: str, user: int | None = None) -> Manifest:
    """Return a pod that runs commands."""
    return gpu_pod(name, "/bin/sh", "-c", "; ".join(commands), user=user)


def kept_by_the_plugin(kubernetes: Standalone) -> Lines:
    """The limits hold; a daemon that is killed comes back; daemons outlive the plugin."""
    whole = Plugin(kubernetes)
    half = (facts_of(kubernetes).properties.gpus[0].memory_mib or 0) // 2 + 1024
    (end,) = pods.run(kubernetes, gpu_pod("alone", WORK, "4", "60", str(half)))
    yield from ended("alone, without MPS", end)
    alone = parse_work(end.text)
    require(bool(alone.granted), "a pod alone gets more than half of the memory")
    whole.stop()
    plugin = Plugin(kubernetes, replicas=2, by="mps")
    plugin.wait_for(SERVES)
    yield from block("the plugin", plugin.process.text())
    yield from block("its directory", kubernetes.node.run("ls", "-lR", ROOT).stdout)
    show = ("env | grep -E 'MPS|NVIDIA_GPU' | sort", "ls -la /mps/nvidia.com/gpu/pipe")
    work = (f"{WORK} 4 60 {half}", f"{WORK} 1 60 4096")
    two = [shell("user-0", *show, *work, user=0), shell("user-1000", *show, *work, user=1000)]
    ends = pods.run(kubernetes, *two)
    for end in ends:
        yield from ended("shared by MPS", end)
    works = [parse_work(end.text) for end in ends]
    yield compared(alone, works)
    for work_ in works:
        require(work_.multiprocessors == (alone.multiprocessors or 0) // 2, "half of the threads")
        require(work_.granted is False, "more than half of the memory is refused")
    require(pods.overlap(*works) > 2, "both compute at the same time")
    quit_ = "echo quit | nvidia-cuda-mps-control"
    (end,) = pods.run(kubernetes, shell("quit", quit_, user=0))
    yield from ended("root of a pod tells the daemon to quit", end)
    yield from _idle(plugin)
    yield from _killed(kubernetes, plugin)
    yield from _adopted(kubernetes, plugin)
    yield from _apart(kubernetes)


def _killed(kubernetes: Standalone, plugin: Plugin) -> Lines:
    """Kill the daemon while pods compute."""
    name = shell("long", f"{WORK} 8 60 64", "echo again", "sleep 5", f"{WORK} 2 60 64")
    kubernetes.apply(name)
    kubernetes.wait("long", "Running", seconds=pods.SECONDS)
    until(lambda: "begin" in kubernetes.log("long"), "it computes", seconds=pods.SECONDS)
    failures, starts = (plugin.process.text().count(words) for words in (FAILED, SERVES))
    yield from block("processes", _processes(kubernetes))
    pid = _daemon(kubernetes)
    begin = time.monotonic()
    kubernetes.node.run("kill", "-KILL", str(pid))
    plugin.wait_for(FAILED, failures + 1)
    noticed = time.monotonic() - begin
    plugin.wait_for(SERVES, starts + 1)
    yield f"killed: noticed after {noticed:.2f} s, serves after {time.monotonic() - begin:.2f} s"
    yield from block("processes", _processes(kubernetes))
    require(_daemon(kubernetes) != pid, "another daemon runs")
    (end,) = pods.run(kubernetes, gpu_pod("after", WORK, "2", "60", "64"))
    yield from ended("a pod that starts afterwards", end)
    end = pods.end_of(kubernetes, "long")
    kubernetes.delete("long")
    yield from ended("the pod that ran when the daemon was killed, and its next process", end)
    first, _, second = end.text.partition("again")
    limit = parse_work(first).multiprocessors
    require(parse_work(second).multiprocessors == limit, "its next process uses the new daemon")


def _adopted(kubernetes: Standalone, plugin: Plugin) -> Lines:
    """End the plugin while pods compute, and start another one; then do so without a daemon."""
    pid = _daemon(kubernetes)
    kubernetes.apply(gpu_pod("through", WORK, "8", "60", "64"))
    kubernetes.wait("through", "Running", seconds=pods.SECONDS)
    until(lambda: "begin" in kubernetes.log("through"), "it computes", seconds=pods.SECONDS)
    plugin.stop()
    plugin = Plugin(kubernetes, replicas=2, by="mps")
    plugin.wait_for(SERVES)
    yield from block("the next plugin", plugin.process.text())
    require("adopted" in plugin.process.text(), "the daemon is adopted")
    require(_daemon(kubernetes) == pid, "the daemon is the same")
    end = pods.end_of(kubernetes, "through")
    kubernetes.delete("through")
    yield from ended("a pod that computed through the restart of the plugin", end)
    require(end.phase == "Succeeded", "the pod goes on")
    kubernetes.apply(shell("without", "sleep 6", f"{WORK} 1 60 64"))
    kubernetes.wait("without", "Running", seconds=pods.SECONDS)
    plugin.stop()
    kubernetes.node.run("kill", "-KILL", str(pid))
    end = pods.end_of(kubernetes, "without")
    kubernetes.delete("without")
    yield from ended("a program that starts while no daemon serves", end)


def _apart(kubernetes: Standalone) -> Lines:
    """Keep the daemon in a process of its own, and kill the plugin while a pod computes."""
    words = (*CDI_GEN, "kubernetes", "mps-control-daemon", "--config-file", CONFIG)
    keeper = kubernetes.node.start("mps-control-daemon", *words, env=environment())
    plugin = Plugin(kubernetes, 2, "mps", "--no-start-mps-daemons")
    plugin.wait_for(SERVES)
    kubernetes.apply(gpu_pod("apart", WORK, "5", "60", "64"))
    kubernetes.wait("apart", "Running", seconds=pods.SECONDS)
    until(lambda: "begin" in kubernetes.log("apart"), "it computes", seconds=pods.SECONDS)
    plugin.process.stop(SIGKILL)
    end = pods.end_of(kubernetes, "apart")
    kubernetes.delete("apart")
    yield from block("mps-control-daemon", keeper.text())
    yield from ended("a pod whose daemon is not the plugin's, which was killed", end)
    require(end.phase == "Succeeded", "the pod goes on")
    keeper.stop()


def _idle(plugin: Plugin) -> Lines:
    begin = plugin.usage()
    time.sleep(IDLE_SECONDS)
    used = plugin.usage().cpu_seconds - begin.cpu_seconds
    yield f"plugin idle for {IDLE_SECONDS} s: {used:.2f} CPU seconds, {begin.resident_kib} KiB"


def _daemon(kubernetes: Standalone) -> int:
    """Return the id of the daemon's process in the node."""
    command = f"cat {ROOT}/GPU-*/pipe/nvidia-cuda-mps-control.pid"
    return int(kubernetes.node.run("sh", "-c", command).stdout)


def _processes(kubernetes: Standalone) -> str:
    command = (
        "for p in /proc/[0-9]*; do c=$(tr '\\0' ' ' < $p/cmdline 2>/dev/null);"
        "case $c in *mps-*|*/work*) echo ${p#/proc/} $c;; esac; done"
    )
    return str(kubernetes.node.run("sh", "-c", command).stdout)
