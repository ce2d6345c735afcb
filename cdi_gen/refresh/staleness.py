# SPDX-License-Identifier: Apache-2.0
"""Compares installed specs with the facts of the host. It does no I/O.

The rules hold for specs of any program: each of them names something that a container would get
wrong, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cdi_base.findings import Finding
from cdi_gen.paths import base_name
from cdi_gen.refresh.effective_specs import EffectiveSpec, EffectiveSpecs
from cdi_gen.refresh.host_facts import (
    Gpu,
    HostFacts,
    Node,
    capability_minor,
    gpu_minor,
    is_drm_node,
)

ALL, NONE = "all", "none"

_VERSIONED = re.compile(
    r"lib(?:cuda|nvidia|nvcuvid|nvoptix|\w+_nvidia)[\w-]*\.so\.(\d{2,4}\.\d{1,4}(?:\.\d{1,4})?)",
    re.ASCII,
)
"""A library of the driver with the driver's version in its name."""

_OTHER_DRIVERS = ("/dev/dxg", "/dev/nvmap", "/dev/nvhost-", "/dev/nvgpu/")
"""Nodes of the drivers of WSL 2 and Tegra."""


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
        has_other_driver = _has_other_driver(spec)
        if host.driver_version is None and not has_other_driver:
            findings.append(
                _stale("CDG-V101", spec.path, "no NVIDIA driver is loaded on this host")
            )
            continue
        findings += _paths(spec, host)
        findings += _nodes(spec, host)
        if not has_other_driver:
            findings += _versions(spec, host)
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


def _has_other_driver(spec: EffectiveSpec) -> bool:
    """Whether the spec is of WSL 2 or Tegra: procfs shows neither their driver nor their GPUs."""
    return any(
        (node.host_path or node.path).startswith(_OTHER_DRIVERS)
        for edits in spec.edits
        for node in edits.device_nodes
    )


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
    """Return the nodes that the host lacks, or that have other numbers.

    Engines ask the host for what a spec does not say: the type, and both numbers if it has no major
    number. A minor number that it does not say is 0.
    """
    for edits in spec.edits:
        for node in edits.device_nodes:
            path = node.host_path or node.path
            on_host = host.nodes.get(path)
            actual = host.kernel_numbers(node.path) or on_host
            if on_host is None and not (node.type and node.major):
                yield _stale("CDG-V105", spec.path, f"the device node {path} does not exist")
            elif actual is None:
                # A root engine would create the node; without a driver it would be of no use.
                yield _stale(
                    "CDG-V105",
                    spec.path,
                    f"the device node {path} does not exist, and no driver has its number",
                )
            elif not node.major and on_host != actual:
                yield _stale(
                    "CDG-V106",
                    spec.path,
                    f"{path} on this host has the number {on_host}, the kernel uses {actual}; "
                    "the spec takes the number of the host",
                )
            elif node.major and actual != (node.major, node.minor or 0):
                number = Node(node.major, node.minor or 0)
                yield _stale(
                    "CDG-V106", spec.path, f"{path} has the number {number}, on this host {actual}"
                )


def _devices(spec: EffectiveSpec, host: HostFacts) -> Iterator[Finding]:
    """Return the devices of GPUs and MIG devices that the host does not have, or has elsewhere."""
    minors = {gpu.minor for gpu in host.gpus}
    divided = {instance.gpu_minor for instance in host.instances}
    for device in spec.devices:
        if device.name == NONE:
            continue
        name = f"{spec.spec.kind}={device.name}"
        nodes = device.container_edits.device_nodes
        paths = [node.path for node in nodes]
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
        foreign = _other_drm_nodes([node.host_path or node.path for node in nodes], gpus, host)
        if foreign and gpus <= minors:
            given = ", ".join(f"/dev/nvidia{minor}" for minor in sorted(gpus))
            message = f"{name} has {', '.join(foreign)} of another graphics card than {given}"
            yield _stale("CDG-V108", spec.path, message)
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


def _other_drm_nodes(paths: Sequence[str], minors: set[int], host: HostFacts) -> list[str]:
    """Return the DRM nodes among a device's nodes that are not those of its GPUs."""
    own: set[str] = set()
    for gpu in host.gpus:
        if gpu.minor in minors:
            if gpu.drm_nodes is None:
                return []
            own |= gpu.drm_nodes
    nodes = {path for path in paths if is_drm_node(path) and path in host.nodes}
    return sorted(nodes - own) if minors else []


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
