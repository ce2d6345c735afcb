# SPDX-License-Identifier: Apache-2.0
"""Faults of the device nodes of a running container: missing, of another driver, refused; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cdi_base.findings import Finding
from cdi_gen.containers.model import REFUSED, ContainerNode
from cdi_gen.why import container_advice
from cdi_gen.why.container_facts import (
    Facts,
    configured_mounts,
    configured_nodes,
    host_devices,
    is_driver_node,
    prestart_hook,
    was_allowed,
)

GPU_NODE = re.compile(r"/dev/nvidia\d+", re.ASCII)
UNKNOWN_ERROR = "Failed to initialize NVML: Unknown Error"


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield the faults of the nodes, the one that explains most first."""
    refused = [node for node in facts.nodes if node.access == REFUSED and _is_gpu_node(facts, node)]
    yield from _refused(facts, refused)
    yield from _renumbered(facts)
    yield from _missing(facts)


def _is_gpu_node(facts: Facts, node: ContainerNode) -> bool:
    numbers = {(one.major, one.minor) for one in host_devices(facts.host.inventory).values()}
    return is_driver_node(node.path) or (node.major, node.minor) in numbers


def _refused(facts: Facts, refused: list[ContainerNode]) -> Iterator[Finding]:
    configuration = facts.examination.configuration
    hook = prestart_hook(configuration)
    mounted = {destination for _, destination in configured_mounts(configuration)}
    has_access = any(is_driver_node(node.path) and node.access != REFUSED for node in facts.nodes)
    lost, mounted_only, made = [], [], []
    for node in refused:
        if was_allowed(configuration, node):
            lost.append(node)
        elif node.path in mounted or _is_below(node.path, mounted):
            mounted_only.append(node)
        elif hook and not (has_access and GPU_NODE.fullmatch(node.path)):
            lost.append(node)
        else:
            made.append(node)
    if lost:
        yield _lost(facts, lost, hook)
    if mounted_only:
        yield Finding(
            "CDG-Y215",
            "error",
            f"{_names(mounted_only)} is mounted into the container as a file, and no device rule "
            "allows it: opening it fails with 'Operation not permitted'",
            subject=mounted_only[0].path,
            fix=container_advice.recreate(facts),
        )
    if made:
        yield Finding(
            "CDG-Y214",
            "warning",
            f"{_names(made)} was made in the container, and its control group refuses it: "
            "nvidia-smi makes the nodes of all GPUs of the host, because the driver's parameter "
            "ModifyDeviceFiles in the container allows it",
            subject=made[0].path,
            fix="sudo cdi-gen hook install && sudo cdi-gen generate -o /etc/cdi/nvidia.json && "
            f"{container_advice.create_again(facts)}; or create the container with "
            "--cap-drop=MKNOD",
        )


def _is_below(path: str, directories: set[str]) -> bool:
    return any(path.startswith(f"{directory.rstrip('/')}/") for directory in directories)


def _lost(facts: Facts, lost: Sequence[ContainerNode], hook: str) -> Finding:
    absent = [
        f"/dev/char/{node.major}:{node.minor}"
        for node in lost
        if not facts.host.is_there(f"/dev/char/{node.major}:{node.minor}")
    ]
    cause = (
        f"{hook}, a prestart hook, allowed the devices, and systemd does not know this: 'systemctl "
        "daemon-reload' applied its own rules again"
        if hook
        else "systemd applied its own device rules again ('systemctl daemon-reload'), and these "
        "devices are not in them"
    )
    fix = container_advice.by_cdi(facts) if hook else container_advice.restart(facts)
    if absent:
        # runc before 1.2 leaves out devices that systemd could not find there.
        cause += f"; {absent[0]}, where systemd looks for it, does not exist"
        fix = f"sudo cdi-gen system create-dev-char-symlinks && {fix}"
    return Finding(
        "CDG-Y213",
        "error",
        f"the control group of the container refuses {_names(lost)}, which the container was "
        f"started with, so NVML says '{UNKNOWN_ERROR}': {cause}",
        subject=lost[0].path,
        fix=fix,
    )


def _renumbered(facts: Facts) -> Iterator[Finding]:
    devices = host_devices(facts.host.inventory)
    for node in facts.nodes:
        device = devices.get(node.path)
        if device and node.kind == "c" and (node.major, node.minor) != (device.major, device.minor):
            yield Finding(
                "CDG-Y212",
                "error",
                f"{node.path} in the container is {node.major}:{node.minor}, and "
                f"{device.major}:{device.minor} on the host now: the driver's module was loaded "
                "again after the container had started",
                subject=node.path,
                fix=f"sudo cdi-gen refresh && {container_advice.create_again(facts)}",
            )


def _missing(facts: Facts) -> Iterator[Finding]:
    present = {node.path for node in facts.nodes}
    configured = [node.path for node in configured_nodes(facts.examination.configuration)]
    expected = [
        (path, "its config.json") for path in dict.fromkeys(configured) if is_driver_node(path)
    ]
    where = ", ".join(facts.spec_files)
    expected += [
        (node.path, where)
        for node in facts.edits.device_nodes
        if is_driver_node(node.path) and node.path not in configured
    ]
    absent: dict[str, list[str]] = {}
    for path, source in expected:
        if path not in present:
            absent.setdefault(source, []).append(path)
    for source, missing in absent.items():
        yield Finding(
            "CDG-Y211",
            "error",
            f"the container lacks {', '.join(missing)}, which {source} has",
            subject=missing[0],
            fix=container_advice.restart(facts)
            if source == "its config.json"
            else container_advice.create_again(facts),
        )


def _names(nodes: Sequence[ContainerNode]) -> str:
    return ", ".join(node.path for node in nodes)
