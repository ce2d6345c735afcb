# SPDX-License-Identifier: Apache-2.0
"""Returns which container has which GPU, in every engine; no engine is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from cdi_gen.containers import holders, uses
from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.discovery import Discovery, discover
from cdi_gen.containers.model import Allocation, Container, Holder, Process, Report, Use
from cdi_gen.containers.uses import Numbers, Uses
from cdi_gen.host import THIS_HOST, Where, gather
from cdi_gen.host.gpu_processes import NvmlUnavailable, gpu_processes
from cdi_gen.inventory import CharDevice, Inventory
from cdi_gen.paths import join

POD_RESOURCES = "/var/lib/kubelet/pod-resources/kubelet.sock"

Allocations = Mapping[tuple[str, str, str], tuple[Allocation, ...]]


def who(where: Where = THIS_HOST, *, inventory: Inventory | None = None) -> Report:
    """Return the containers that have GPUs, and the processes that use them.

    Args:
        where: the host's layout.
        inventory: the host's GPUs, without asking NVML for processes; None: probe the host.

    Raises:
        NoDriverError: the host has no NVIDIA driver, or no GPU.
        CdiGenError: as `cdi_gen.host.gather`.
    """
    is_probed = inventory is None
    if inventory is None:
        inventory = gather(where._replace(transports=False))
    proc = f"{where.host_root.rstrip('/')}/proc"
    nodes = host_nodes(inventory)
    discovery = discover(where.host_root, nodes)
    unseen = [*discovery.unseen]
    found, no_memory = _uses(discovery, inventory, where if is_probed else None, proc, unseen)
    allocations = _allocations(f"{where.host_root.rstrip('/')}{POD_RESOURCES}", unseen)
    holding = [
        holder
        for container in discovery.containers
        if (holder := _holder(container, inventory, found, allocations)) is not None
    ]
    return Report(
        holders=tuple(holding),
        host_uses=_of(discovery.others, found),
        containers=len(discovery.containers),
        source="open files" if no_memory else "nvml",
        no_memory=no_memory,
        unseen=tuple(unseen),
    )


def host_nodes(inventory: Inventory) -> tuple[FoundNode, ...]:
    """Return the host's nodes of GPUs and MIG devices."""
    devices: list[CharDevice] = [node for gpu in inventory.gpus for node in gpu.nodes]
    devices += inventory.control_nodes
    for mig in inventory.mig_devices:
        devices += (mig.gpu_instance_cap, mig.compute_instance_cap)
    return tuple(FoundNode(node.path, "c", node.major, node.minor) for node in devices)


def _holder(
    container: Container, inventory: Inventory, found: Uses, allocations: Allocations
) -> Holder | None:
    """Return a container with its GPUs; None if it has none, as far as can be seen."""
    devices = holders.held_devices(container.nodes, inventory)
    used = _of(container.processes, found)
    pod = container.origin.pod
    allocated = allocations.get((pod.namespace, pod.name, pod.container), ()) if pod else ()
    if not devices and not used and not allocated:
        return None
    return Holder(
        container=container,
        devices=devices,
        has_all=holders.has_all(container, devices, inventory),
        uses=used,
        allocations=allocated,
    )


def _of(processes: Sequence[Process], found: Uses) -> tuple[Use, ...]:
    return tuple(use for process in processes for use in found.by_pid.get(process.pid, ()))


def _uses(
    discovery: Discovery, inventory: Inventory, where: Where | None, proc: str, unseen: list[str]
) -> tuple[Uses, str]:
    """Return the uses, and why their memory is not known."""
    container_of = {
        process.pid: container
        for container in discovery.containers
        for process in container.processes
    }
    processes = {process.pid: process for process in discovery.others}
    for container in discovery.containers:
        processes.update((process.pid, process) for process in container.processes)
    if where is None:
        no_memory = "NVML is asked only without --inventory"
    else:
        try:
            return uses.by_nvml(gpu_processes(inventory, where), processes, inventory), ""
        except NvmlUnavailable as error:
            no_memory = str(error)
    of_host = {
        join(inventory.dev_root, node.path): (node.major, node.minor)
        for node in host_nodes(inventory)
    }
    of_container: dict[int, Mapping[str, Numbers]] = {}

    def nodes(process: Process) -> Mapping[str, Numbers]:
        container = container_of.get(process.pid)
        if container is None:
            return of_host
        if container.first.pid not in of_container:
            of_container[container.first.pid] = {
                node.path: (node.major, node.minor) for node in container.nodes
            }
        return of_container[container.first.pid]

    found = uses.by_open_files(processes.values(), proc, nodes, inventory)
    if found.hidden:
        unseen.append(f"open files of {found.hidden} processes: only root may look at them")
    return found, no_memory


def _allocations(socket: str, unseen: list[str]) -> Allocations:
    """Return what the kubelet has allocated, by namespace, pod and container."""
    if not os.path.exists(socket):
        return {}
    try:
        from cdi_gen.kubernetes import pod_resources  # noqa: PLC0415 - loads gRPC, an extra
    except ImportError:
        return {}
    try:
        answers = pod_resources.allocations(socket)
    except pod_resources.KubeletError as error:
        unseen.append(f"allocations of the kubelet: {error}")
        return {}
    # The kubelet lists devices of another NUMA node apart.
    ids: dict[tuple[str, str, str], dict[str, tuple[str, ...]]] = {}
    for answer in answers:
        by_resource = ids.setdefault((answer.namespace, answer.pod, answer.container), {})
        by_resource[answer.resource] = (*by_resource.get(answer.resource, ()), *answer.ids)
    return {
        key: tuple(
            Allocation(resource=resource, ids=values) for resource, values in by_resource.items()
        )
        for key, by_resource in ids.items()
    }
