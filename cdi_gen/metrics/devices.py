# SPDX-License-Identifier: Apache-2.0
"""The devices of a snapshot as dcgm-exporter has them, and the containers that use them; pure.

dcgm-exporter knows GPUs, GPU instances and NVLinks. Two MIG devices of one GPU instance are one
entity there: NVML measures the instance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cdi_gen.containers.model import Container, Holder
from cdi_gen.metrics import labels
from cdi_gen.metrics.attribution import is_allocated
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from cdi_gen.telemetry.model import GpuReading, MigReading, Quantities

USES_PER_CONTAINER = 8
"""For each container that may have samples, so many pairs of container and device may have some."""


Key = tuple[str, int]
"""The UUID of a GPU, with the number of a GPU instance or -1."""


class Entity(NamedTuple):
    """A GPU, a GPU instance or an NVLink."""

    key: Key
    gpu: GpuReading
    pairs: tuple[labels.Pair, ...]
    quantities: Quantities
    uses: tuple[ContainerUse, ...] = ()
    """Of the containers that have it."""
    is_instance: bool = False


class Uses(NamedTuple):
    """What containers do with devices, as far as it has samples."""

    by_device: Mapping[str, tuple[ContainerUse, ...]]
    containers: tuple[Container, ...]
    omitted: int
    """The number of containers with GPUs that have no samples."""
    omitted_uses: int


def container_key(container: Container) -> tuple[int, int]:
    """Return what identifies a container as long as it runs."""
    return container.first.start_time, container.first.pid


def select_uses(snapshot: Snapshot, max_containers: int) -> Uses:
    """Return the uses of the containers that started first, those of root's engines before others.

    Any user can start many containers that have all GPUs.

    A privileged container can use each GPU. Only GPUs that it does use, or that the kubelet has
    allocated to it, count as its own.
    """
    uuids = {gpu.index: gpu.uuid for gpu in snapshot.reading.gpus}
    uuids |= {device.index: device.uuid for gpu in snapshot.reading.gpus for device in gpu.mig}
    containers: dict[tuple[int, int], Container] = {}
    for holder in snapshot.holders:
        containers.setdefault(container_key(holder.container), holder.container)
    uses = []
    for use in snapshot.uses:
        if use.device in uuids and _is_own(use, uuids[use.device]):
            containers.setdefault(container_key(use.holder.container), use.holder.container)
            uses.append(use)
    in_order = sorted(containers.items(), key=lambda item: (bool(item[1].origin.user), item[0]))
    kept = dict(in_order[: max(0, max_containers)])
    by_device: defaultdict[str, list[ContainerUse]] = defaultdict(list)
    count, omitted_uses = 0, 0
    for use in uses:
        if container_key(use.holder.container) not in kept:
            continue
        if count < USES_PER_CONTAINER * max_containers:
            by_device[use.device].append(use)
            count += 1
        else:
            omitted_uses += 1
    return Uses(
        by_device={device: tuple(items) for device, items in by_device.items()},
        containers=tuple(kept.values()),
        omitted=len(containers) - len(kept),
        omitted_uses=omitted_uses,
    )


def gpu_entities(snapshot: Snapshot, uses: Uses) -> Iterator[Entity]:
    """Yield GPUs, each followed by its GPU instances."""
    count = len(snapshot.reading.gpus)
    for gpu in snapshot.reading.gpus:
        pairs = labels.gpu_pairs(gpu)
        own_quantities = gpu.quantities if gpu.fault else {**gpu.quantities, "gpu_quantity": count}
        yield Entity((gpu.uuid, -1), gpu, pairs, own_quantities, uses.by_device.get(gpu.index, ()))
        for number, devices in instances(gpu).items():
            quantities: dict[str, float] = {}
            for device in reversed(devices):
                quantities.update(device.quantities)
            yield Entity(
                (gpu.uuid, number),
                gpu,
                (*pairs, *labels.instance_pairs(devices[0])),
                quantities,
                _merged(use for device in devices for use in uses.by_device.get(device.index, ())),
                is_instance=True,
            )


def instances(gpu: GpuReading) -> Mapping[int, tuple[MigReading, ...]]:
    """Return the MIG devices of each GPU instance of a GPU."""
    numbers = dict.fromkeys(device.gpu_instance for device in gpu.mig)
    return {
        number: tuple(device for device in gpu.mig if device.gpu_instance == number)
        for number in numbers
    }


def link_entities(snapshot: Snapshot) -> Iterator[Entity]:
    """Yield the NVLinks of GPUs."""
    for gpu in snapshot.reading.gpus:
        for link in gpu.links:
            yield Entity((gpu.uuid, -1), gpu, labels.link_pairs(gpu, link), link.quantities)


def only_container(uses: Iterable[ContainerUse]) -> Container | None:
    """Return the container that a device is for; None if there is none, or several.

    Privileged containers count only if no other container has the device.
    """
    own = [use for use in uses if not use.holder.has_all or use.holder.allocations] or [*uses]
    containers = {container_key(use.holder.container): use.holder.container for use in own}
    return next(iter(containers.values())) if len(containers) == 1 else None


def replica(holder: Holder, uuid: str) -> str:
    """Return the number of the replica of a shared device that the kubelet has allocated."""
    numbers = sorted(
        name.partition("::")[2]
        for allocation in holder.allocations
        for name in allocation.ids
        if name.startswith(f"{uuid}::")
    )
    return numbers[0] if numbers else ""


def _merged(uses: Iterable[ContainerUse]) -> tuple[ContainerUse, ...]:
    """Return one use for each container; a container may have two MIG devices of an instance."""
    by_container: dict[tuple[int, int], ContainerUse] = {}
    for use in uses:
        key = container_key(use.holder.container)
        other = by_container.get(key)
        if other is not None:
            use = ContainerUse(  # noqa: PLW2901 - the same use, of both devices
                holder=use.holder,
                device=other.device,
                processes=_sum(other.processes, use.processes),
                memory=_sum(other.memory, use.memory),
            )
        by_container[key] = use
    return tuple(by_container.values())


def _sum(one: int | None, other: int | None) -> int | None:
    """Return a sum that is known only if both numbers are."""
    return None if one is None or other is None else one + other


def _is_own(use: ContainerUse, uuid: str) -> bool:
    """Whether the device counts as the container's own."""
    return not use.holder.has_all or bool(use.processes) or is_allocated(use.holder, uuid)
