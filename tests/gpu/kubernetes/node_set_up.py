# SPDX-License-Identifier: Apache-2.0
"""A node that `cdi-gen kubernetes toolkit` sets up, with the variables of NVIDIA's GPU Operator.

The operator's validation without an API server: the container `toolkit-validation` is one whose whole
command is `nvidia-smi`, by the handler `nvidia`; a static pod cannot name a RuntimeClass, so the
handler is the default one for pods. The device plugin, too, has the operator's variables.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.gpu.kubernetes import pods
from tests.gpu.kubernetes.gpu_node import BUNDLE, CDI_GEN, IMAGE, environment
from tests.gpu.kubernetes.page import Lines, block, ended, require
from tests.gpu.kubernetes.plugin import Plugin
from tests.gpu.kubernetes.pods import gpu_pod, parse_work
from tests.lab.kubernetes import gpu_operator
from tests.lab.kubernetes.manifests import Manifest, pod
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.process import Process, supervised
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until

ROOT = "/opt/nvidia"
"""The operator's `toolkit.installDir`. /usr/local/nvidia may have the driver, as a mount."""
MANAGEMENT = "management.nvidia.com/gpu=all"
WORK = ("/usr/bin/work", "2", "60", "4096")
ALL_GPUS = {"NVIDIA_VISIBLE_DEVICES": "all"}
PLACES = ("/etc/containerd", ROOT, "/run/cdi", "/run/nvidia")
OF_KUBELET = ("/etc/containerd/conf.d", "/run/nvidia/toolkit", ROOT)
"""Directories of the DaemonSet's volumes, which kubelet makes."""
_NUMBERS = itertools.count()


def with_python(kubernetes: Standalone) -> Lines:
    """The programs use the node's own python3."""
    yield from validated(kubernetes, (), ())


def with_bundle(kubernetes: Standalone) -> Lines:
    """The programs bring their interpreter; the node has no python3 that can be executed."""
    node = kubernetes.node
    require_bundle(node)
    hidden = pythons(node)
    for path in hidden:
        node.run("mount", "--bind", "/dev/null", path)
    try:
        names = " ".join(sorted({Path(path).name for path in hidden}))
        tries = f"for name in python3 {names}; do $name -c 1; done"
        answer = node.run("/bin/sh", "-c", tries, check=False)
        yield from block("the node's python3", answer.stderr)
        require(answer.returncode != 0, "the node's python3 cannot be executed")
        yield from validated(kubernetes, (f"--bundle={BUNDLE}",), hidden)
    finally:
        for path in hidden:
            node.run("umount", path)


def require_bundle(node: Node) -> None:
    """Fail the part if the run has no bundle."""
    there = node.run("test", "-d", f"{BUNDLE}/bin", check=False).returncode == 0
    require(there, "the run has a bundle: --bundle DIRECTORY")


def pythons(node: Node) -> list[str]:
    """Return the node's files that are Python 3 by a name in PATH."""
    script = (
        f"IFS=:; for folder in $PATH:{Path(CDI_GEN[0]).parent}; do "
        'for file in $folder/python3*; do [ ! -f "$file" ] || realpath "$file"; done; done'
    )
    return sorted(set(node.run("/bin/sh", "-c", script).stdout.split()))


def validated(kubernetes: Standalone, options: Sequence[str], hidden: Sequence[str]) -> Lines:
    """Set the node up, run containers of each handler and pods, and undo it."""
    node = kubernetes.node
    node.run("mkdir", "-p", *OF_KUBELET)
    before = listing(node)
    begin = time.monotonic()
    variables = {"NVIDIA_RUNTIME_SET_AS_DEFAULT": "true"}
    with supervised(node.processes["containerd"]):
        with toolkit(node, variables, options, hidden) as process:
            wait_for(process, "containerd is configured")
            yield f"set up after {time.monotonic() - begin:.2f} s"
            node.wait_for_engine()
            yield from block("nvidia-toolkit", process.text())
            yield from _installed(node)
            with paused(node.processes["kubelet"]):
                yield from _containers(node)
            yield from _pods(kubernetes, hidden)
            require(process.stop() == 0, f"SIGTERM ends it with 0: {process.text()[-2000:]}")
            node.wait_for_engine()
            changed = difference(before, listing(node))
            yield from block("what SIGTERM leaves: the programs, as NVIDIA's", summary(changed))
            require(all(line.split()[0].startswith(ROOT) for line in changed), "only programs stay")
        undo = (*CDI_GEN, "kubernetes", "setup-node", "--undo", f"--root={ROOT}")
        node.run(*gpu_operator.unhidden(hidden), *undo, env=environment())
        left = difference(before, listing(node))
        yield from block("what setup-node --undo leaves", "\n".join(left) or "nothing")
        require(not left, "setup-node --undo leaves nothing")


@contextlib.contextmanager
def paused(kubelet: Process) -> Iterator[None]:
    """Stop a running kubelet, which ends containers that are of no pod that it knows."""
    kubelet.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        kubelet.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def toolkit(
    node: Node, variables: dict[str, str], options: Sequence[str] = (), hidden: Sequence[str] = ()
) -> Iterator[Process]:
    """Start the operator's toolkit container; end it at the end."""
    words = gpu_operator.command(CDI_GEN[0], *options, hidden=hidden)
    settings = {**environment(), **gpu_operator.ENVIRONMENT, "ROOT": ROOT, **variables}
    process = node.start(f"toolkit-{next(_NUMBERS)}", *words, env=settings)
    try:
        yield process
    finally:
        if process.returncode() is None:
            process.stop()


def wait_for(process: Process, words: str) -> None:
    """Wait until a program has printed these words."""

    def printed() -> bool:
        require(process.returncode() is None, f"it runs: {process.text()[-3000:]}")
        return words in process.text()

    until(printed, words, seconds=60)


def listing(node: Node) -> set[str]:
    """Return a line for all that is in the places that a set-up changes, with content and owner."""
    places = " ".join(PLACES)
    script = (
        f"find {places} -printf '%p %M %U:%G %l\\n' 2>/dev/null; "
        f"find {places} -type f -exec sha256sum {{}} + 2>/dev/null | while read sum path; "
        "do echo $path $sum; done"
    )
    return set(node.run("/bin/sh", "-c", script).stdout.splitlines())


def difference(before: set[str], after: set[str]) -> list[str]:
    """Return what one listing has and the other has not."""
    return sorted(before ^ after)


def summary(lines: Sequence[str]) -> str:
    """Return the first two levels of directories of a listing, and how much there is."""
    top = sorted({"/".join(line.split()[0].split("/")[:4]) for line in lines})
    return "\n".join((*top, f"{len({line.split()[0] for line in lines})} files and directories"))


def _installed(node: Node) -> Lines:
    """The programs, the engine's configuration and the specs."""
    show = f"ls -l {ROOT} {ROOT}/toolkit/ {ROOT}/toolkit/bin/; du -shL {ROOT}/toolkit/"
    yield from block("programs", node.run("/bin/sh", "-c", show).stdout)
    drop_in = node.run("cat", "/etc/containerd/conf.d/99-nvidia.toml").stdout
    yield from block("/etc/containerd/conf.d/99-nvidia.toml", drop_in)
    for handler in ("nvidia", "nvidia-cdi", "nvidia-legacy"):
        require(f"runtimes.{handler}]" in drop_in.replace("'", "").replace('"', ""), handler)
    specs = [json.loads(path.read_text("utf-8")) for path in sorted(node.run_cdi.glob("*.json"))]
    for spec in specs:
        names = ", ".join(device["name"] for device in spec["devices"])
        yield f"spec of {spec['kind']}: {names}"
    kinds = {spec["kind"] for spec in specs}
    require({"management.nvidia.com/gpu", "nvidia.com/gpu"} <= kinds, "both specs are written")


def _containers(node: Node) -> Lines:
    """Containers by CRI, which can name a handler: the validation, and CUDA by each handler."""
    begin = time.monotonic()
    end = node.container("nvidia-smi", image=IMAGE, env=ALL_GPUS, handler="nvidia")
    seconds = time.monotonic() - begin
    title = f"toolkit-validation: nvidia-smi by the handler nvidia: {end.status}, {seconds:.2f} s"
    yield from block(title, end.text)
    require(end.status == 0 and "NVIDIA-SMI" in end.text, "nvidia-smi succeeds")
    for handler, devices in (
        ("nvidia", "all"),
        ("nvidia", "nvidia.com/gpu=all"),
        ("nvidia-cdi", "nvidia.com/gpu=all"),
        ("nvidia-legacy", "all"),
    ):
        variables = {"NVIDIA_VISIBLE_DEVICES": devices, "NVIDIA_DRIVER_CAPABILITIES": "all"}
        end = node.container(*WORK, image=IMAGE, env=variables, handler=handler)
        work = parse_work(end.text)
        title = f"a CUDA kernel, NVIDIA_VISIBLE_DEVICES={devices}, handler {handler}: {end.status}"
        yield from block(title, end.text)
        require(end.status == 0 and bool(work.rate), f"{handler} computes")
    end = node.container("/bin/sh", "-c", "ls /dev", image=IMAGE, handler="nvidia")
    require("nvidia" not in end.text, "a container that requests no GPU has none")


def _pods(kubernetes: Standalone, hidden: Sequence[str]) -> Lines:
    """Pods by kubelet: the validation by the default handler; then by the device plugin."""
    (end,) = pods.run(kubernetes, gpu_pod("bare", "nvidia-smi", count=0, environment=ALL_GPUS))
    yield from ended("a pod whose whole command is nvidia-smi", end)
    require(end.phase == "Succeeded" and "NVIDIA-SMI" in end.text, "the pod's nvidia-smi succeeds")
    variables = {
        "DEVICE_LIST_STRATEGY": "cdi-annotations,cdi-cri",
        "NVIDIA_CDI_HOOK_PATH": f"{ROOT}/toolkit/nvidia-cdi-hook",
        "PASS_DEVICE_SPECS": "true",
    }
    plugin = Plugin(kubernetes, variables=variables, before=gpu_operator.unhidden(hidden))
    try:
        hooks = set(_hook_programs(kubernetes.node))
        yield f"hook programs of all specs: {', '.join(sorted(hooks))}"
        require(all(path.startswith(f"{ROOT}/") for path in hooks), "the hooks are those installed")
        (end,) = pods.run(kubernetes, gpu_pod("work", *WORK))
        yield from ended("cuda-validation: a pod with a GPU of the device plugin", end)
        require(end.phase == "Succeeded", "a pod runs a CUDA kernel")
        require(plugin.devices[0].identifier[:12] in end.text, "on the GPU that it was given")
    finally:
        plugin.stop()
        # The plugin leaves its spec for pods that start while there is no plugin.
        kubernetes.node.run("/bin/sh", "-c", "rm -f /run/cdi/k8s.device-plugin.*")


def _hook_programs(node: Node) -> Iterator[str]:
    """Yield the paths of the hooks that specs name."""
    for path in node.run_cdi.glob("*.json"):
        spec = json.loads(path.read_text("utf-8"))
        for edits in (
            spec.get("containerEdits", {}),
            *(device.get("containerEdits", {}) for device in spec["devices"]),
        ):
            yield from (hook["path"] for hook in edits.get("hooks", ()))


def nri(kubernetes: Standalone) -> Lines:
    """The operator's NRI mode: a pod in its namespace gets the devices of its annotation."""
    node = kubernetes.node
    node.run("mkdir", "-p", *OF_KUBELET)
    before = listing(node)
    settings = {"ENABLE_NRI_PLUGIN": "true", "NRI_SOCKET": "/host/run/nri/nri.sock"}
    with toolkit(node, settings) as process:
        wait_for(process, "is registered")
        files = difference(before, listing(node))
        require(not any("/etc/containerd" in line for line in files), "no engine is configured")
        (first,) = pods.run(kubernetes, annotated("administrator", "gpu-operator"))
        (other,) = pods.run(kubernetes, annotated("other", "default"), seconds=8)
        yield from ended(f"a pod of gpu-operator with {MANAGEMENT}, command: nvidia-smi", first)
        yield from block("a pod of another namespace", f"{other.phase} {other.reason}")
        yield from block("nvidia-toolkit", process.text())
        require(first.phase == "Succeeded" and "NVIDIA-SMI" in first.text, "nvidia-smi succeeds")
        require(other.phase != "Succeeded" and "[CDG-N601]" in process.text(), "others may not")
        require(process.stop() == 0, "SIGTERM ends it with 0")
    undo = (*CDI_GEN, "kubernetes", "setup-node", "--undo", f"--root={ROOT}")
    node.run(*undo, env=environment())
    left = difference(before, listing(node))
    yield from block("what setup-node --undo leaves", "\n".join(left) or "nothing")
    require(not left, "setup-node --undo leaves nothing")


def annotated(name: str, namespace: str) -> Manifest:
    """Return a pod that requests the devices for programs that administer GPUs."""
    annotations = {"nvidia.cdi.k8s.io/container.main": MANAGEMENT}
    manifest = pod(name, "nvidia-smi", image=IMAGE, annotations=annotations)
    manifest["metadata"]["namespace"] = namespace
    manifest["spec"]["terminationGracePeriodSeconds"] = 1
    return manifest
