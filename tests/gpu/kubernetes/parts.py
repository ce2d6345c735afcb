# SPDX-License-Identifier: Apache-2.0
"""The parts of the run; each writes a section of the page."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from cdi_gen.kubernetes.health.process import request
from tests.gpu.kubernetes import (
    idle,
    measure,
    mps,
    mps_daemons,
    node_set_up,
    node_starts,
    pods,
    several_gpus,
)
from tests.gpu.kubernetes.gpu_node import CDI_GEN, environment, facts_of
from tests.gpu.kubernetes.page import Lines, block, compared, ended, require
from tests.gpu.kubernetes.plugin import Plugin
from tests.gpu.kubernetes.pods import Work, gpu_pod, overlap, parse_work
from tests.lab.kubernetes.process import Process
from tests.lab.kubernetes.standalone import Standalone

Part = Callable[[Standalone], Lines]

WORK = ("/usr/bin/work", "5", "60", "4096")
"""On 60 of the 132 multiprocessors of an H100 or H200."""
_NUMBERS = itertools.count()


def registered(kubernetes: Standalone) -> Lines:
    """The plugin registers the real GPUs; what it prints, and what it costs."""
    plugin = Plugin(kubernetes)
    kib = plugin.usage().resident_kib
    yield f"ready after {plugin.ready_seconds:.2f} s, {kib / 1024:.1f} MiB resident"
    for device in plugin.devices:
        yield f"device {device.identifier}, NUMA nodes {list(device.numa_nodes)}"
    time.sleep(3)
    yield from block("the plugin", plugin.process.text())
    yield from block("specs", kubernetes.node.run("ls", "-l", "/run/cdi").stdout)
    show = "nvidia-smi -L; nvidia-smi; ls -l /dev; cat /proc/self/cgroup; env | grep -i cuda"
    (end,) = pods.run(kubernetes, gpu_pod("nvidia-smi", "/bin/sh", "-c", show))
    yield from ended("nvidia-smi", end)
    (end,) = pods.run(kubernetes, gpu_pod("bare", "nvidia-smi", "-L"))
    yield from ended("nvidia-smi -L, the whole command of the pod", end)
    require(plugin.devices[0].identifier in end.text, "nvidia-smi lists the GPU")
    (end,) = pods.run(kubernetes, gpu_pod("work", *WORK))
    yield from ended("work", end)
    require(end.phase == "Succeeded", "a pod runs a CUDA kernel")
    (end,) = pods.run(kubernetes, gpu_pod("two", "nvidia-smi", "-L", count=2), seconds=15)
    yield from ended("2 GPUs where there is 1", end)
    plugin.stop()


def time_slicing(kubernetes: Standalone) -> Lines:
    """Two pods share a GPU and compute at the same time; there is no place for a third."""
    plugin = Plugin(kubernetes, replicas=2)
    for device in plugin.devices:
        yield f"device {device.identifier}, NUMA nodes {list(device.numa_nodes)}"
    (end,) = pods.run(kubernetes, gpu_pod("alone", *WORK))
    alone = parse_work(end.text)
    yield from ended("alone", end)
    manifests = [gpu_pod(f"shared-{number}", *WORK) for number in range(2)]
    for manifest in manifests:
        kubernetes.apply(manifest)
    for manifest in manifests:
        kubernetes.wait(manifest["metadata"]["name"], "Running", seconds=pods.SECONDS)
    kubernetes.apply(gpu_pod("third", *WORK))
    third = pods.end_of(kubernetes, "third", 4)
    ends = [pods.end_of(kubernetes, manifest["metadata"]["name"]) for manifest in manifests]
    for end in ends:
        yield from ended("shared", end)
    yield from ended("third", third)
    works = [parse_work(end.text) for end in ends]
    yield compared(alone, works)
    require(overlap(*works) > 3, "two pods compute at the same time")
    require(third.phase == "Failed", "there is no place for a third pod")
    for name in ("shared-0", "shared-1", "third"):
        kubernetes.delete(name)
    yield from block("the plugin", plugin.process.text())
    plugin.stop()


def answers(kubernetes: Standalone) -> Lines:
    """The time of Allocate, and memory after many calls."""
    plugin = Plugin(kubernetes, replicas=10)
    before = plugin.usage().resident_kib
    first = plugin.allocate(200)
    after = plugin.usage().resident_kib
    yield f"resident: {before / 1024:.1f} MiB at the start, {after / 1024:.1f} after 200 Allocate"
    for name, seconds in (("first 200", first), ("next 2000", plugin.allocate(2000))):
        p50, p99 = (measure.percentile(seconds, percent) * 1e3 for percent in (50, 99))
        yield f"Allocate, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {max(seconds) * 1e3:.2f}"
    yield f"resident after 2200: {plugin.usage().resident_kib / 1024:.1f} MiB"
    yield from health(kubernetes)
    plugin.stop()


def health(kubernetes: Standalone) -> Lines:
    """What the health process prints, and the properties of the GPUs."""
    facts = facts_of(kubernetes)
    yield from block("the request", json.dumps(request(facts.inventory, "/")))
    process = watch_health(kubernetes)
    time.sleep(5)
    yield from block("the health process", process.text())
    process.stop()
    yield from block("properties", json.dumps(facts.document()["properties"], indent=1))


def watch_health(kubernetes: Standalone) -> Process:
    """Start a process that watches the GPUs, as the plugin does."""
    wanted = json.dumps(request(facts_of(kubernetes).inventory, "/"))
    kubernetes.node.inside.write("/run/health.json", wanted)
    command = f"exec {CDI_GEN[0]} -m cdi_gen.kubernetes.health < /run/health.json"
    name = f"health-{next(_NUMBERS)}"
    return kubernetes.node.start(name, "/bin/sh", "-c", command, env=environment())


def shared_by_mps(kubernetes: Standalone) -> Lines:
    """MPS by hand."""
    folder = mps_folder()
    if folder is None:
        yield "the driver has no nvidia-cuda-mps-control"
        return
    plugin = Plugin(kubernetes, replicas=4)
    (end,) = pods.run(kubernetes, gpu_pod("alone", *mps.WORK))
    alone = parse_work(end.text)
    yield from ended("alone, without MPS", end)
    two = [gpu_pod(f"plain-{number}", *mps.WORK) for number in range(2)]
    ends = pods.run(kubernetes, *two)
    yield f"without MPS: {compared(alone, [parse_work(end.text) for end in ends])}"
    with mps.daemon_on_node(kubernetes, folder) as daemon:
        for number, variant in enumerate((*mps.ON_NODE_VARIANTS, mps.SOCKET_VARIANT)):
            yield from attempt(kubernetes, f"node-{number}", variant, alone, folder)
        files = kubernetes.node.run("ls", "-la", mps.PIPES.node, mps.LOGS.node, "/dev/shm").stdout
        yield from block("files of daemon and server", files)
        yield from hostile(kubernetes, daemon)
        yield from block("daemon and server", "\n".join(daemon.text().splitlines()[-80:]))
    with mps.daemon_on_node(kubernetes, folder, mps.PIPES.node, "-multiuser-server") as daemon:
        yield from attempt(kubernetes, "multiuser", mps.USERS, alone, folder)
        yield from block("daemon with -multiuser-server", daemon.text())
    kubernetes.node.run("rm", "-rf", mps.PIPES.node, mps.LOGS.node)
    kubernetes.node.run("mkdir", "-p", mps.PIPES.node, mps.LOGS.node)
    with mps.daemon_in_pod(kubernetes):
        for number, variant in enumerate(mps.IN_POD_VARIANTS):
            yield from attempt(kubernetes, f"pod-{number}", variant, alone, None)
        yield from block("the daemon's pod", kubernetes.log("mps"))
    plugin.stop()


def hostile(kubernetes: Standalone, daemon: Process) -> Lines:
    """Whether a pod can end the daemon that other pods use."""
    commands = f"ls -l /mps/pipe; echo get_server_list | {mps.CONTROL}; echo quit | {mps.CONTROL}"
    for name, volume, user in (
        ("user-socket", mps.SOCKET, 1000),
        ("user-directory", mps.PIPES, 1000),
        ("root-socket", mps.SOCKET, 0),
        ("root-read-only", mps.READ_ONLY_PIPES, 0),
        ("root-directory", mps.PIPES, 0),
    ):
        manifest = gpu_pod(
            name,
            *("/bin/sh", "-c", commands),
            environment={"CUDA_MPS_PIPE_DIRECTORY": "/mps/pipe"},
            volumes=(volume,),
            user=user,
        )
        (end,) = pods.run(kubernetes, manifest, seconds=20)
        time.sleep(1)
        yield from ended(f"quit by {name}; the daemon's status: {daemon.returncode()}", end)
        ends_it = user == 0 and volume is not mps.SOCKET
        require((daemon.returncode() is not None) == ends_it, "who can end the daemon")
        if daemon.returncode() is not None:
            return


def faults(kubernetes: Standalone) -> Lines:
    """A pod's kernel writes where it must not: the Xid that NVML tells, and the pod beside it."""
    plugin = Plugin(kubernetes, replicas=2)
    process = watch_health(kubernetes)
    time.sleep(3)
    fault = gpu_pod("fault", "/usr/bin/work", "2", "60", "64", "fault")
    beside, faulty = pods.run(kubernetes, gpu_pod("beside", *WORK), fault)
    yield from ended("beside", beside)
    yield from ended("fault", faulty)
    time.sleep(6)
    yield from block("the health process", process.text())
    yield from block("the plugin", plugin.process.text())
    devices = plugin.devices_now()
    yield f"devices: {devices}"
    require('"xid": 31' in process.text(), "NVML tells the Xid")
    require(beside.phase == "Succeeded", "the pod beside it computes on")
    require(len(devices) == 2, "the GPU stays healthy")
    process.stop()
    plugin.stop()


def attempt(
    kubernetes: Standalone, name: str, variant: mps.Variant, alone: Work, folder: str | None
) -> Lines:
    """Run two clients of MPS."""
    manifests = mps.clients(name, variant)
    for manifest in manifests:
        kubernetes.apply(manifest)
    known = ""
    if folder:
        time.sleep(2.5)
        known = mps.tell(kubernetes, folder, "get_server_list\nps\n")
    names = [manifest["metadata"]["name"] for manifest in manifests]
    ends = [pods.end_of(kubernetes, pod, 30) for pod in names]
    for pod in names:
        kubernetes.delete(pod)
    works = [parse_work(end.text) for end in ends]
    yield f"MPS, {name}, {variant.title}: {compared(alone, works)}"
    for work in works:
        require(work.multiprocessors != alone.multiprocessors, "each pod is a client of MPS")
    for end in ends:
        yield from ended(variant.title, end)
    if known:
        yield from block("get_server_list, ps", known)


def mps_folder() -> str | None:
    """Return the directory with the driver's programs for MPS; None if it has none."""
    folders = [*os.get_exec_path(), "/usr/local/nvidia/bin"]
    program = shutil.which(mps.CONTROL, path=os.pathsep.join(folders))
    return program and str(Path(program).parent)


PARTS: dict[str, Part] = {
    "registered": registered,
    "time-slicing": time_slicing,
    "answers": answers,
    "idle": idle.idle,
    "faults": faults,
    "mps": shared_by_mps,
    "mps-daemons": mps_daemons.kept_by_the_plugin,
    "toolkit": node_set_up.with_python,
    "toolkit-bundle": node_set_up.with_bundle,
    "starts": node_starts.starts,
    "nri": node_set_up.nri,
    "several-gpus": several_gpus.several_gpus,
}
