# SPDX-License-Identifier: Apache-2.0
"""Divides the devices of a node into resources, as the MIG strategy and the sharing say."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from cdi_base.findings import Finding
from cdi_base.nvidia import cdi_name
from cdi_gen.inventory import TEGRA, WSL, Gpu, Inventory, MigDevice
from cdi_gen.inventory.properties import Properties
from cdi_gen.kubernetes.resources import mps
from cdi_gen.kubernetes.resources.device import REPLICA, Device, Resource
from cdi_gen.kubernetes.resources.layout import layout
from cdi_gen.kubernetes.settings.model import (
    ALL_DEVICES,
    PREFIX,
    ResourceRule,
    Settings,
    SharedResource,
    SharingStrategy,
)
from cdi_gen.kubernetes.settings.names import mig_resource_name

WHOLE_PLATFORMS = {WSL: "all", TEGRA: "tegra"}
"""Platforms whose GPUs a container gets together, and the id of that device."""


@dataclass(frozen=True, slots=True)
class Advertised:
    """The resources of a node by name, and what is not advertised."""

    resources: tuple[Resource, ...] = ()
    findings: tuple[Finding, ...] = ()


def advertise(inventory: Inventory, properties: Properties, settings: Settings) -> Advertised:
    """Return the resources of a node.

    Raises:
        UsageError: a MIG profile gives a name that Kubernetes does not allow.
    """
    findings: list[Finding] = []
    by_name: dict[str, list[Device]] = {}
    for name, device in _named(inventory, properties, settings, findings):
        by_name.setdefault(name, []).append(device)
    resources: dict[tuple[str, SharingStrategy], list[Device]] = {}
    for name, devices in by_name.items():
        for key, shared in _shared(name, devices, properties, settings, findings):
            resources.setdefault(key, []).extend(shared)
    return Advertised(
        tuple(
            Resource(
                name=name,
                devices=tuple(devices),
                sharing=strategy,
                fail_requests_greater_than_one=(
                    strategy != "none" and settings.sharing.fail_requests_greater_than_one
                ),
            )
            for (name, strategy), devices in sorted(_one_strategy(resources).items())
        ),
        tuple(findings),
    )


def _one_strategy(
    resources: dict[tuple[str, SharingStrategy], list[Device]],
) -> dict[tuple[str, SharingStrategy], list[Device]]:
    """Merge devices that are not shared into the shared resource of the same name."""
    merged = dict(resources)
    for name, strategy in resources:
        if strategy != "none" and (name, "none") in merged:
            exclusive = merged.pop((name, "none"))
            merged[name, strategy] = [*exclusive, *merged[name, strategy]]
    return merged


def _named(
    inventory: Inventory, properties: Properties, settings: Settings, findings: list[Finding]
) -> Iterable[tuple[str, Device]]:
    """Yield each device that may be advertised, with the name of its resource."""
    whole = WHOLE_PLATFORMS.get(inventory.platform)
    if whole:
        name = _gpu_name(settings, inventory.gpus[0].model if inventory.gpus else "")
        yield name or f"{PREFIX}gpu", Device(id=whole, uuid=whole, index="0", gpu_index=0)
        return
    devices = layout(inventory, settings.mig_strategy)
    findings += [_left_out(gpu, reason) for gpu, reason in devices.left_out]
    for gpu in inventory.gpus:
        for instance in devices.mig_devices.get(gpu.index, ()):
            yield from _mig_device(gpu, instance, properties, settings, findings)
        if gpu in devices.whole:
            yield from _whole_gpu(gpu, properties, settings, findings)


def _whole_gpu(
    gpu: Gpu, properties: Properties, settings: Settings, findings: list[Finding]
) -> Iterable[tuple[str, Device]]:
    if gpu.uuid is None:
        findings.append(_left_out(gpu, "neither the driver nor NVML reports its UUID"))
        return
    known = properties.gpu(gpu.index)
    name = _gpu_name(settings, known.product or gpu.model)
    if name is None:
        findings.append(_left_out(gpu, f"no rule in resources.gpus matches {gpu.model!r}"))
        return
    yield (
        name,
        Device(
            id=gpu.uuid,
            uuid=gpu.uuid,
            index=str(gpu.index),
            gpu_index=gpu.index,
            numa_node=known.numa_node,
            paths=tuple(node.path for node in gpu.nodes),
            memory_mib=known.memory_mib,
        ),
    )


def _mig_device(
    gpu: Gpu,
    instance: MigDevice,
    properties: Properties,
    settings: Settings,
    findings: list[Finding],
) -> Iterable[tuple[str, Device]]:
    index = f"{instance.gpu_index}:{instance.index}"
    if instance.uuid is None:
        findings.append(_left_out(gpu, f"its MIG device {index} has no UUID of its own"))
        return
    if not instance.profile:
        findings.append(_left_out(gpu, f"NVML reports no profile of its MIG device {index}"))
        return
    own = (
        f"{PREFIX}gpu" if settings.mig_strategy == "single" else mig_resource_name(instance.profile)
    )
    memory = {mig.uuid: mig.memory_mib for mig in properties.mig_devices}
    caps = (instance.gpu_instance_cap.path, instance.compute_instance_cap.path)
    yield (
        _mig_name(settings, instance.profile) or own,
        Device(
            id=cdi_name(instance.uuid),
            uuid=instance.uuid,
            index=index,
            gpu_index=gpu.index,
            mig=True,
            numa_node=properties.gpu(gpu.index).numa_node,
            paths=(*(node.path for node in gpu.nodes), *caps),
            memory_mib=memory.get(instance.uuid),
        ),
    )


def _gpu_name(settings: Settings, model: str) -> str | None:
    """Return the resource of the first rule whose pattern a part of the model matches.

    That is how NVIDIA's plugin reads patterns: ``Tesla V100`` is any Tesla V100.
    """
    rules = settings.gpu_rules
    return next((rule.name for rule in rules if fnmatchcase(model, f"*{_glob(rule)}*")), None)


def _mig_name(settings: Settings, profile: str) -> str | None:
    """Return the resource of the first rule whose pattern the profile matches.

    It must match as a whole: ``1g.10gb`` and ``1g.10gb+me`` are different profiles.
    """
    rules = settings.mig_rules
    return next((rule.name for rule in rules if fnmatchcase(profile, _glob(rule))), None)


def _glob(rule: ResourceRule) -> str:
    """Return the pattern for fnmatch; only ``*`` is special in it."""
    return "*".join(map(glob.escape, rule.pattern.split("*")))


def _shared(
    name: str,
    devices: list[Device],
    properties: Properties,
    settings: Settings,
    findings: list[Finding],
) -> Iterable[tuple[tuple[str, SharingStrategy], list[Device]]]:
    """Yield the devices of a resource under the names under which they are advertised."""
    sharing = settings.sharing
    rest = devices
    for shared in sharing.resources:
        if shared.name != name:
            continue
        chosen = _chosen(shared, rest)
        if sharing.strategy == "mps":
            chosen = list(_shareable_by_mps(shared, chosen, properties, findings))
        rest = [device for device in rest if device not in chosen]
        if chosen and not sharing.is_shared(shared):
            yield (sharing.advertised_name(shared), "none"), chosen
            continue
        replicas = [
            replace(device, id=f"{device.id}{REPLICA}{number}", replicas=shared.replicas)
            for device in chosen
            for number in range(shared.replicas)
        ]
        if replicas:
            yield (sharing.advertised_name(shared), sharing.strategy), replicas
    if rest:
        yield (name, "none"), rest


def _chosen(shared: SharedResource, devices: list[Device]) -> list[Device]:
    if shared.devices == ALL_DEVICES:
        return devices
    if isinstance(shared.devices, int):
        return devices[: shared.devices]
    return [
        device
        for device in devices
        if device.uuid in shared.devices or device.index in shared.devices
    ]


def _left_out(gpu: Gpu, reason: str) -> Finding:
    name = gpu.uuid or f"GPU {gpu.index}"
    return Finding("CDG-N102", "warning", f"{name} is not advertised: {reason}", subject=name)


def _shareable_by_mps(
    shared: SharedResource,
    devices: list[Device],
    properties: Properties,
    findings: list[Finding],
) -> Iterable[Device]:
    """Yield the devices that MPS can share; the others stay whole."""
    if any(device.mig for device in devices):
        findings.append(_mps_on_mig(shared.name))
    for device in devices:
        if device.mig:
            continue
        if device.uuid in WHOLE_PLATFORMS.values():
            findings.append(_not_by_mps(device, "the platform has no MPS for containers"))
            continue
        capability = properties.gpu(device.gpu_index).compute_capability
        most = mps.max_clients(capability, properties.cuda_version)
        if shared.replicas > most:
            reason = f"it has {shared.replicas} replicas, and {most} clients are possible"
            findings.append(_not_by_mps(device, reason))
            continue
        yield device


def _not_by_mps(device: Device, reason: str) -> Finding:
    return Finding(
        "CDG-N131",
        "warning",
        f"{device.uuid} is not shared by MPS: {reason}",
        subject=device.uuid,
    )


def _mps_on_mig(name: str) -> Finding:
    return Finding(
        "CDG-N103",
        "warning",
        f"MIG devices of {name} are not shared: MPS shares whole GPUs only",
        subject=name,
        fix="Share MIG devices by timeSlicing.",
    )
