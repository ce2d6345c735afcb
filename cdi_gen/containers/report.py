# SPDX-License-Identifier: Apache-2.0
"""Returns which container has which GPU, in every engine; no engine is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdi_gen.containers import allocations, holders, uses
from cdi_gen.containers.allocations import Allocations
from cdi_gen.containers.discovery import Discovery, discover
from cdi_gen.containers.model import Container, Holder, Process, Report, Use
from cdi_gen.containers.uses import Numbers, Uses
from cdi_gen.host import THIS_HOST, Where, gather
from cdi_gen.host.gpu_processes import NvmlUnavailable, gpu_processes
from cdi_gen.inventory import Inventory
from cdi_gen.paths import join


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
    nodes = holders.host_nodes(inventory)
    discovery = discover(where.host_root, nodes)
    unseen = [*discovery.unseen]
    found, no_memory = _uses(discovery, inventory, where if is_probed else None, proc, unseen)
    allocated, fault = allocations.of_kubelet(where.host_root)
    unseen += [fault] if fault else []
    holding = [
        holder
        for container in discovery.containers
        if (holder := _holder(container, inventory, found, allocated)) is not None
    ]
    return Report(
        holders=tuple(holding),
        host_uses=_of(discovery.others, found),
        containers=len(discovery.containers),
        source="open files" if no_memory else "nvml",
        no_memory=no_memory,
        unseen=tuple(unseen),
    )


def _holder(
    container: Container, inventory: Inventory, found: Uses, allocated: Allocations
) -> Holder | None:
    """Return a container with its GPUs; None if it has none, as far as can be seen."""
    used = _of(container.processes, found)
    allocated_to = allocations.of_container(container, allocated)
    devices = holders.held_devices(container.nodes, inventory)
    if not devices and not used and not allocated_to:
        return None
    return Holder(
        container=container,
        devices=devices,
        has_all=holders.has_all(container, devices, inventory),
        uses=used,
        allocations=allocated_to,
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
        for node in holders.host_nodes(inventory)
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
