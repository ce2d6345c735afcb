# SPDX-License-Identifier: Apache-2.0
"""who, top, doctor and why on a real GPU, with containers whose loads are known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tests.gpu.metrics.loads import IDLE, MATMUL, Loaded
from tests.gpu.programs.container import cdi_gen_environment
from tests.gpu.several.gpus import Gpu

MIB = 2**20
MATMUL_AT_LEAST = 0.5
MADE_IN_IT = "CDG-Y214"
"""The finding about nodes that were made in the container, and are refused."""
WORKING = ("driver-loaded", "gpu-present", "gpu-drivers", "driver-versions", "driver-libraries")
"""Checks of doctor that are ok where containers compute."""


class Run(NamedTuple):
    """A command of cdi-gen that has ended."""

    words: tuple[str, ...]
    status: int
    output: str
    errors: str

    @property
    def title(self) -> str:
        """The command line."""
        return " ".join(("cdi-gen", *self.words))

    def document(self) -> Any:
        """Parse the output as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.output)


def cdi_gen(*words: str) -> Run:
    """Run this checkout's cdi-gen, whatever its exit status."""
    process = subprocess.run(
        [sys.executable, "-m", "cdi_gen", *words],
        env=cdi_gen_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Run(words, process.returncode, process.stdout, process.stderr)


def who_faults(
    document: Mapping[str, Any], loads: Sequence[Loaded], memory: Mapping[int, float]
) -> list[str]:
    """Compare `who -o json` with the containers that were started, and with nvidia-smi.

    Args:
        document: the output.
        loads: the containers.
        memory: MiB of GPU memory by process, from nvidia-smi.
    """
    by_id = {entry["id"]: entry for entry in document["containers"]}
    faults = []
    for loaded in loads:
        entry = by_id.get(loaded.id)
        if entry is None:
            faults.append(f"who: {loaded.load.name} ({loaded.id}) is not there")
            continue
        name = loaded.load.name
        if entry["engine"] != loaded.engine:
            faults.append(f"who: {name}: engine {entry['engine']}, expected {loaded.engine}")
        # nvidia-smi makes the nodes of other GPUs too, which the control group refuses.
        devices = [device["uuid"] for device in entry["devices"] if device["access"] != "refused"]
        if devices != [loaded.load.gpu.uuid]:
            faults.append(f"who: {name}: devices {devices}, expected {loaded.load.gpu.uuid}")
        users = {use["pid"]: use["memory"] for use in entry["uses"]}
        expected = {pid: memory[pid] for pid in loaded.pids if pid in memory}
        if set(users) != set(expected):
            faults.append(f"who: {name}: processes {sorted(users)}, nvidia-smi: {sorted(expected)}")
        for pid, mebibytes in expected.items():
            size = users.get(pid)
            if size is None or abs(size / MIB - mebibytes) > 1:
                faults.append(
                    f"who: {name}: process {pid}: {size} bytes, nvidia-smi: {mebibytes} MiB"
                )
    return faults


def memory_faults(loads: Sequence[Loaded], memory: Mapping[int, float]) -> list[str]:
    """Whether nvidia-smi lists what the loads have allocated: the comparison needs that."""
    faults = []
    for loaded in loads:
        used = sum(memory.get(pid, 0.0) for pid in loaded.pids) / 1024
        low, high = loaded.load.gibibytes, loaded.load.gibibytes + 3
        if not low <= used <= high:
            faults.append(
                f"{loaded.load.name}: nvidia-smi lists {used:.2f} GiB, allocated {low:g} GiB"
            )
    return faults


def top_faults(
    document: Mapping[str, Any],
    loads: Sequence[Loaded],
    gpus: Sequence[Gpu],
    memory: Mapping[int, float],
) -> list[str]:
    """Compare `top -o json` with the containers that were started, and with nvidia-smi."""
    faults = []
    listed = [gpu["uuid"] for gpu in document["gpus"]]
    if listed != [gpu.uuid for gpu in gpus]:
        faults.append(f"top: GPUs {listed}, expected {[gpu.uuid for gpu in gpus]}")
    faults += [
        f"top: GPU {gpu['index']}: {gpu['fault']}" for gpu in document["gpus"] if gpu["fault"]
    ]
    by_id = {entry["id"]: entry for entry in document["containers"]}
    for loaded in loads:
        entry = by_id.get(loaded.id)
        if entry is None:
            faults.append(f"top: {loaded.load.name} ({loaded.id}) is not there")
            continue
        devices = {device["index"]: device for device in entry["devices"]}
        if list(devices) != [str(loaded.load.gpu.index)]:
            faults.append(f"top: {loaded.load.name}: devices {list(devices)}")
            continue
        (device,) = devices.values()
        faults += _use_faults(loaded, device, memory)
    return faults


def _use_faults(
    loaded: Loaded, device: Mapping[str, Any], memory: Mapping[int, float]
) -> Iterator[str]:
    name = loaded.load.name
    users = [pid for pid in loaded.pids if pid in memory]
    expected = sum(memory[pid] for pid in users)
    if device["processes"] != len(users):
        yield f"top: {name}: {device['processes']} processes, nvidia-smi lists {len(users)}"
    if device["memory"] is None or abs(device["memory"] / MIB - expected) > len(users):
        yield f"top: {name}: memory {device['memory']}, nvidia-smi lists {expected} MiB"
    utilization = device["utilization"]
    if loaded.load.kind == IDLE and utilization not in (0, None):
        yield f"top: {name} is idle, but its utilisation is {utilization}"
    if loaded.load.kind == MATMUL and utilization is not None and utilization < MATMUL_AT_LEAST:
        yield f"top: {name} computes without a pause, but its utilisation is {utilization}"


def text_faults(run: Run, *expected: str) -> list[str]:
    """Whether a command has succeeded, and has printed these texts."""
    faults = (
        [] if run.status == 0 else [f"{run.title}: exit {run.status}: {run.errors.strip()[-300:]}"]
    )
    return faults + [
        f"{run.title} does not print {text!r}" for text in expected if text not in run.output
    ]


def doctor_faults(document: Mapping[str, Any], gpus: Sequence[Gpu], driver: str) -> list[str]:
    """Whether `doctor --json` says what is true of a host whose GPUs compute."""
    host = " ".join(map(str, document["host"].values()))
    faults = [] if driver in host else [f"doctor: the host is {host!r}, expected driver {driver}"]
    checks = {check["name"]: check["status"] for check in document["checks"]}
    return faults + [
        f"doctor: {name} is {checks.get(name)}, but {len(gpus)} GPUs compute"
        for name in WORKING
        if checks.get(name) != "ok"
    ]


def why_name_faults(document: Mapping[str, Any], device: str) -> list[str]:
    """Whether `why -o json NAME` says that the name works for an engine: a container got it so."""
    outcomes = {answer["engine"]: answer["outcome"] for answer in document["answers"]}
    return [] if "works" in outcomes.values() else [f"why {device}: {outcomes}, expected works"]


def why_container_faults(document: Mapping[str, Any], loaded: Loaded, driver: str) -> list[str]:
    """Whether `why -o json --container ID` says what is true of a container that computes.

    The spec has no hook, so the driver's libraries may have made nodes of other GPUs in the
    container. Exactly then it must say so.
    """
    name = loaded.load.name
    refused = [node["path"] for node in document["nodes"] if node["state"] == "refused"]
    faults = [
        f"why {name}: {finding['code']}: {finding['message']}"
        for finding in document["findings"]
        if not (refused and finding["code"] == MADE_IN_IT)
    ]
    if refused and MADE_IN_IT not in {finding["code"] for finding in document["findings"]}:
        faults.append(f"why {name}: no {MADE_IN_IT}, but {', '.join(refused)} is refused")
    if document["id"] != loaded.id or document["pid"] not in loaded.pids:
        faults.append(f"why {name}: id {document['id']}, PID {document['pid']}")
    if document["libraries"]["versions"] != [driver]:
        faults.append(
            f"why {name}: libraries {document['libraries']['versions']}, expected {driver}"
        )
    node = f"/dev/nvidia{loaded.load.gpu.minor}"
    states = {entry["path"]: entry["state"] for entry in document["nodes"]}
    if states.get(node, "missing") in ("refused", "missing"):
        faults.append(f"why {name}: {node} is {states.get(node, 'missing')}")
    return faults


def usage_commands(
    loads: Sequence[Loaded], gpus: Sequence[Gpu], memory: Mapping[int, float]
) -> Iterator[tuple[str, str, list[str]]]:
    """Run who and top; yield title, output and faults of each, as `check` does."""
    names = [loaded.load.name for loaded in loads]
    yield judged(("who",), lambda run: text_faults(run, *names))
    yield judged(("who", "-o", "wide"), lambda run: text_faults(run, *names))
    yield judged(("who", "-o", "json"), lambda run: who_faults(run.document(), loads, memory))
    yield judged(("top", "--once", "--ascii"), lambda run: text_faults(run, *names))
    yield judged(("top", "-o", "json"), lambda run: top_faults(run.document(), loads, gpus, memory))


def check(
    loads: Sequence[Loaded], gpus: Sequence[Gpu], driver: str, memory: Mapping[int, float]
) -> Iterator[tuple[str, str, list[str]]]:
    """Run the commands while the containers run; yield title, output and faults of each.

    Args:
        loads: the containers.
        gpus: all GPUs of the host.
        driver: the version of the driver.
        memory: MiB of GPU memory by process, from nvidia-smi.
    """
    yield from usage_commands(loads, gpus, memory)
    device = f"nvidia.com/gpu={gpus[0].index}"
    yield judged(("doctor",), lambda run: [])
    yield judged(("doctor", "--json"), lambda run: doctor_faults(run.document(), gpus, driver))
    yield judged(("why", device), text_faults)
    yield judged(("why", "-o", "json", device), lambda run: why_name_faults(run.document(), device))
    for loaded in loads:
        yield judged(("why", "--container", loaded.id), text_faults)
        judge = partial(_why_container_faults_of, loaded=loaded, driver=driver)
        yield judged(("why", "-o", "json", "--container", loaded.id), judge)


def _why_container_faults_of(run: Run, *, loaded: Loaded, driver: str) -> list[str]:
    return why_container_faults(run.document(), loaded, driver)


def judged(
    words: Sequence[str], faults_of: Callable[[Run], list[str]]
) -> tuple[str, str, list[str]]:
    """Run a command; return its title, its output and its faults."""
    run = cdi_gen(*words)
    try:
        faults = faults_of(run)
    except (ValueError, KeyError, TypeError) as error:
        faults = [f"{run.title}: exit {run.status}: {type(error).__name__}: {error}"]
    return run.title, run.output + run.errors, faults
