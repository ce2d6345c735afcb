# SPDX-License-Identifier: Apache-2.0
"""Compares installed specs with the facts of the host. It does no I/O.

The rules hold for specs of any program: each of them names something that a container would get
wrong, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cdi_base.findings import Finding
from cdi_gen.cdi.model import DeviceNode
from cdi_gen.paths import base_name
from cdi_gen.refresh.effective_specs import EffectiveSpec, EffectiveSpecs
from cdi_gen.refresh.host_facts import Gpu, HostFacts, Node, capability_minor, gpu_minor

ALL, NONE = "all", "none"

_VERSIONED = re.compile(
    r"lib(?:cuda|nvidia|nvcuvid|nvoptix|\w+_nvidia)[\w-]*\.so\.(\d{2,4}\.\d{1,4}(?:\.\d{1,4})?)",
    re.ASCII,
)
"""A library of the driver with the driver's version in its name."""


def differences(
    specs: EffectiveSpecs, host: HostFacts, left_out: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """Return what engines would read that the host is not, each once.

    Args:
        specs: the specs that engines use.
        host: the facts of the host, read for `EffectiveSpec.host_paths`.
        left_out: devices that our refresh left out as unusable: ``GPU 1 at 0000:3b:00.0``.
    """
    findings = [*_conflicts(specs)]
    for spec in specs.specs:
        if host.driver_version is None:
            findings.append(
                _stale("CDG-V101", spec.path, "no NVIDIA driver is loaded on this host")
            )
            continue
        findings += _paths(spec, host)
        findings += _versions(spec, host)
        findings += _nodes(spec, host)
        findings += _devices(spec, host)
    if host.driver_version is not None and host.gpus:
        if specs.specs or specs.conflicts:
            findings += _without_device(specs.specs, host, left_out)
        else:
            message = f"no spec has a device for the {len(host.gpus)} GPUs of this host"
            findings.append(Finding("CDG-V109", "error", message))
    return tuple(dict.fromkeys(findings))


def _stale(code: str, path: str, message: str) -> Finding:
    return Finding(code, "error", f"{path}: {message}", subject=path)


def _conflicts(specs: EffectiveSpecs) -> Iterator[Finding]:
    for conflict in specs.conflicts:
        files, first = " and ".join(conflict.paths), conflict.names[0]
        others = f" and {len(conflict.names) - 1} others" if conflict.names[1:] else ""
        message = f"{first}{others}: engines cannot resolve a device that {files} define"
        yield Finding("CDG-F102", "error", message, subject=first)


def _paths(spec: EffectiveSpec, host: HostFacts) -> Iterator[Finding]:
    """Return the mounted files and the hook programs that do not exist."""
    for edits in spec.edits:
        for mount in edits.mounts:
            path = mount.host_path
            if path and path not in host.paths and path not in host.nodes:
                yield _stale("CDG-V102", spec.path, f"{path} does not exist")
        for hook in edits.hooks:
            if hook.path not in host.paths:
                yield _stale("CDG-V103", spec.path, f"the hook program {hook.path} does not exist")


def _versions(spec: EffectiveSpec, host: HostFacts) -> Iterator[Finding]:
    """Return the versions of other drivers whose libraries the spec mounts."""
    by_version: dict[str, set[str]] = {}
    for edits in spec.edits:
        for mount in edits.mounts:
            match = _VERSIONED.fullmatch(base_name(mount.host_path))
            if match and match[1] != host.driver_version:
                by_version.setdefault(match[1], set()).add(base_name(mount.host_path))
    for version, names in sorted(by_version.items()):
        count = f"{len(names)} libraries are" if len(names) > 1 else f"{min(names)} is"
        yield _stale(
            "CDG-V104",
            spec.path,
            f"{count} of driver {version}, the loaded driver is {host.driver_version}",
        )


def _nodes(spec: EffectiveSpec, host: HostFacts) -> Iterator[Finding]:
    """Return the nodes that the host lacks, or that have other numbers."""
    for edits in spec.edits:
        for node in edits.device_nodes:
            path = node.host_path or node.path
            actual = _numbers(node.path, host.nodes.get(path), host)
            if node.major is None or node.minor is None or not node.type:
                if path not in host.nodes:
                    yield _stale("CDG-V105", spec.path, f"the device node {path} does not exist")
            elif actual is None:
                # A root engine would create the node; without a driver it would be of no use.
                yield _stale(
                    "CDG-V105",
                    spec.path,
                    f"the device node {path} does not exist, and no driver has its number",
                )
            elif not _is_same(node, actual):
                yield _stale(
                    "CDG-V106",
                    spec.path,
                    f"{path} has the number {node.major}:{node.minor}, on this host {actual}",
                )


def _numbers(path: str, node: Node | None, host: HostFacts) -> Node | None:
    """Return the numbers of a node: the major of the kernel, or else those of the host's node."""
    major = host.major_of(path)
    if major is None or (node and node.major == major):
        return node
    minor = capability_minor(path)
    minor = gpu_minor(path) if minor is None else minor
    if minor is not None:
        return Node(major, minor)
    return Node(major, node.minor) if node else Node(major, -1)


def _is_same(node: DeviceNode, actual: Node) -> bool:
    """Whether a spec's node has the numbers; -1 stands for an unknown minor number."""
    return node.major == actual.major and actual.minor in {node.minor, -1}


def _devices(spec: EffectiveSpec, host: HostFacts) -> Iterator[Finding]:
    """Return the devices of GPUs and MIG devices that the host does not have, or has elsewhere."""
    minors = {gpu.minor for gpu in host.gpus}
    divided = {instance.gpu_minor for instance in host.instances}
    for device in spec.devices:
        if device.name == NONE:
            continue
        name = f"{spec.spec.kind}={device.name}"
        paths = [node.path for node in device.container_edits.device_nodes]
        gpus = {minor for path in paths if (minor := gpu_minor(path)) is not None}
        caps = {minor for path in paths if (minor := capability_minor(path)) is not None}
        for minor in sorted(gpus - minors):
            yield _stale("CDG-V107", spec.path, f"{name}: this host has no GPU /dev/nvidia{minor}")
        for minor in sorted(caps - host.capability_minors):
            message = f"{name}: this host has no MIG device with nvidia-cap{minor}"
            yield _stale("CDG-V107", spec.path, message)
        if not caps and device.name != ALL:
            for minor in sorted(gpus & divided):
                message = f"{name}: the GPU /dev/nvidia{minor} is divided into MIG devices"
                yield _stale("CDG-V107", spec.path, message)
        owner = _named(device.name, host.gpus)
        if owner and not caps and gpus and gpus != {owner.minor}:
            node = ", ".join(f"/dev/nvidia{minor}" for minor in sorted(gpus))
            message = f"{name} has {node}, but the GPU is /dev/nvidia{owner.minor}"
            yield _stale("CDG-V108", spec.path, message)
        if device.name.startswith("GPU-") and owner is None and gpus & minors:
            others = ", ".join(gpu.uuid or "" for gpu in host.gpus if gpu.minor in gpus)
            if all(gpu.uuid for gpu in host.gpus):
                message = f"{name}: this host has no such GPU; the node is that of {others}"
                yield _stale("CDG-V108", spec.path, message)


def _named(name: str, gpus: Sequence[Gpu]) -> Gpu | None:
    return next((gpu for gpu in gpus if name in {str(gpu.number), gpu.uuid}), None)


def _without_device(
    specs: Sequence[EffectiveSpec], host: HostFacts, left_out: Sequence[str]
) -> Iterator[Finding]:
    """Return the GPUs and MIG devices of the host that no device of a spec gives."""
    gpus: set[int] = set()
    instances: list[set[int]] = []
    for spec in specs:
        for device in spec.devices:
            paths = [node.path for node in device.container_edits.device_nodes]
            caps = {minor for path in paths if (minor := capability_minor(path)) is not None}
            instances.append(caps)
            if not caps or device.name == ALL:
                gpus |= {minor for path in paths if (minor := gpu_minor(path)) is not None}
    divided = {instance.gpu_minor for instance in host.instances}
    names = {gpu.minor: f"GPU {gpu.number} at {gpu.pci_address}" for gpu in host.gpus}
    for gpu in host.gpus:
        is_left_out = names[gpu.minor] in left_out
        if gpu.minor not in gpus | divided and not is_left_out:
            uuid = f" ({gpu.uuid})" if gpu.uuid else ""
            message = f"no spec has a device for {names[gpu.minor]}{uuid}"
            yield Finding("CDG-V109", "error", message, subject=names[gpu.minor])
    for instance in host.instances:
        owner = names.get(instance.gpu_minor)
        if owner is None or any(instance.minors <= caps for caps in instances):
            continue
        if any(entry.endswith(owner) or entry.startswith("MIG device") for entry in left_out):
            continue
        message = (
            f"no spec has a device for the MIG device {instance.gpu_instance}/"
            f"{instance.compute_instance} (GPU instance/compute instance) of {owner}"
        )
        yield Finding("CDG-V109", "error", message, subject=owner)
