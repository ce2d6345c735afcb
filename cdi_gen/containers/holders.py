# SPDX-License-Identifier: Apache-2.0
"""Decides which GPUs and MIG devices a container has, by its device nodes; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.model import (
    ALLOWED,
    REFUSED,
    UNKNOWN,
    UNRESTRICTED,
    Container,
    ContainerNode,
    HeldDevice,
)
from cdi_gen.inventory import CharDevice, Gpu, Inventory, MigDevice

_WORST_FIRST = (REFUSED, UNKNOWN, ALLOWED, UNRESTRICTED)


def held_devices(nodes: Iterable[ContainerNode], inventory: Inventory) -> tuple[HeldDevice, ...]:
    """Return the GPUs and MIG devices whose nodes a container has, in the inventory's order.

    A GPU with MIG enabled cannot be used whole. Its MIG devices need the nodes of their instances.
    A GPU without nodes of its own (WSL 2) is not recognised.
    """
    access = {(node.major, node.minor): node.access for node in nodes if node.kind == "c"}
    if not access:
        return ()
    held = []
    for gpu in inventory.gpus:
        if not gpu.nodes:
            continue
        if not gpu.mig_enabled:
            worst = _access(access, gpu.nodes)
            if worst:
                held.append(_gpu(gpu, worst))
            continue
        for device in inventory.mig_devices:
            if device.gpu_index == gpu.index:
                caps = (device.gpu_instance_cap, device.compute_instance_cap)
                worst = _access(access, (*gpu.nodes, *caps))
                if worst:
                    held.append(_mig(device, gpu, worst))
    return tuple(held)


def host_nodes(inventory: Inventory) -> tuple[FoundNode, ...]:
    """Return the host's nodes of GPUs and MIG devices."""
    devices: list[CharDevice] = [node for gpu in inventory.gpus for node in gpu.nodes]
    devices += inventory.control_nodes
    for mig in inventory.mig_devices:
        devices += (mig.gpu_instance_cap, mig.compute_instance_cap)
    return tuple(FoundNode(node.path, "c", node.major, node.minor) for node in devices)


def named_devices(ids: Iterable[str], inventory: Inventory) -> tuple[HeldDevice, ...]:
    """Return the devices of the ids of a device plugin, in the inventory's order.

    An id is the UUID of a GPU or of a MIG device, with ``::N`` if the plugin shares the device.
    """
    uuids = {name.partition("::")[0] for name in ids}
    held = []
    for gpu in inventory.gpus:
        if gpu.uuid in uuids and not gpu.mig_enabled:
            held.append(_gpu(gpu, ALLOWED))
        held += [
            _mig(device, gpu, ALLOWED)
            for device in inventory.mig_devices
            if device.gpu_index == gpu.index and device.uuid in uuids
        ]
    return tuple(held)


def has_all(container: Container, held: tuple[HeldDevice, ...], inventory: Inventory) -> bool:
    """Whether a container has all GPUs because it is privileged."""
    count = len(inventory.mig_devices)
    count += sum(1 for gpu in inventory.gpus if gpu.nodes and not gpu.mig_enabled)
    return container.is_privileged and bool(held) and len(held) == count


def _access(access: Mapping[tuple[int, int], str], nodes: tuple[CharDevice, ...]) -> str:
    """Return the access to all of the nodes; empty if the container lacks one of them."""
    values = [access.get((node.major, node.minor), "") for node in nodes]
    if not all(values):
        return ""
    return min(values, key=_WORST_FIRST.index)


def _gpu(gpu: Gpu, access: str) -> HeldDevice:
    return HeldDevice(index=str(gpu.index), uuid=gpu.uuid or "", model=gpu.model, access=access)


def _mig(device: MigDevice, gpu: Gpu, access: str) -> HeldDevice:
    return HeldDevice(
        index=f"{gpu.index}:{device.index}",
        uuid=device.uuid or "",
        model=gpu.model,
        profile=device.profile,
        access=access,
    )
