# SPDX-License-Identifier: Apache-2.0
"""Finds the processes that use GPUs: by NVML, which knows their memory, or by open files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cdi_gen.containers import procfs
from cdi_gen.containers.model import Process, Use
from cdi_gen.containers.procfs import DENIED, GONE, ProcessDirectory
from cdi_gen.host.gpu_processes import NvmlProcess
from cdi_gen.inventory import Inventory

Numbers = tuple[int, int]


class Uses(NamedTuple):
    """The uses of GPUs by process, and how many processes could not be looked at."""

    by_pid: Mapping[int, tuple[Use, ...]]
    hidden: int = 0


def by_nvml(
    answers: Iterable[NvmlProcess], processes: Mapping[int, Process], inventory: Inventory
) -> Uses:
    """Return the uses that NVML lists. A process that /proc does not have has ended."""
    uses: dict[int, list[Use]] = {}
    for answer in answers:
        process = processes.get(answer.pid)
        device = _device(answer, inventory)
        if process is not None and device is not None:
            uses.setdefault(answer.pid, []).append(
                Use(pid=answer.pid, name=process.name, device=device, memory=answer.memory)
            )
    return Uses({pid: tuple(values) for pid, values in uses.items()})


def by_open_files(
    processes: Iterable[Process],
    proc: str,
    nodes: Callable[[Process], Mapping[str, Numbers]],
    inventory: Inventory,
) -> Uses:
    """Return the GPUs whose nodes processes have open.

    Args:
        processes: to look at.
        proc: the directory of processes.
        nodes: returns the numbers of the nodes of GPUs that a process sees, by path.
        inventory: the GPUs.
    """
    by_pid: dict[int, tuple[Use, ...]] = {}
    hidden = 0
    for process in processes:
        paths = nodes(process)
        if not paths:
            continue
        try:
            with ProcessDirectory(process.pid, proc) as directory:
                if not procfs.is_same(directory, process):
                    continue
                numbers = {paths[path] for path in directory.open_files() if path in paths}
        except OSError as error:
            if error.errno in DENIED:
                hidden += 1
                continue
            if error.errno in GONE:
                continue
            raise
        uses = tuple(
            Use(pid=process.pid, name=process.name, device=device)
            for device in _opened(numbers, inventory)
        )
        if uses:
            by_pid[process.pid] = uses
    return Uses(by_pid, hidden)


def _device(answer: NvmlProcess, inventory: Inventory) -> str | None:
    gpu = next((gpu for gpu in inventory.gpus if gpu.pci_address == answer.pci_address), None)
    if gpu is None:
        return None
    for device in inventory.mig_devices:
        instance = (device.gpu_index, device.gpu_instance, device.compute_instance)
        if instance == (gpu.index, answer.gpu_instance, answer.compute_instance):
            return f"{gpu.index}:{device.index}"
    return str(gpu.index)


def _opened(numbers: set[Numbers], inventory: Inventory) -> list[str]:
    """Return the devices whose nodes are open; of a MIG device those of its instances too."""
    devices = []
    for gpu in inventory.gpus:
        if not gpu.nodes or not {(node.major, node.minor) for node in gpu.nodes} <= numbers:
            continue
        if not gpu.mig_enabled:
            devices.append(str(gpu.index))
        for device in inventory.mig_devices:
            caps = (device.gpu_instance_cap, device.compute_instance_cap)
            if device.gpu_index == gpu.index and {(c.major, c.minor) for c in caps} <= numbers:
                devices.append(f"{gpu.index}:{device.index}")
    return devices
