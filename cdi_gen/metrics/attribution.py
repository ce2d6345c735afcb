# SPDX-License-Identifier: Apache-2.0
"""Decides what each container does with its GPUs, by the processes that NVML lists; pure.

A process counts for the innermost container that it is in. What NVML does not tell is None: a value
is 0 only if the container has no process on the device, or its processes are idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from cdi_gen.containers.model import REFUSED, Container, HeldDevice, Holder, Process
from cdi_gen.metrics.snapshot import ContainerUse, HostUse
from cdi_gen.telemetry.model import ProcessReading, Reading

MPS_SERVER = "nvidia-cuda-mps-server"[:15]
"""The kernel's name of the server of MPS. Its clients share its time slices, so the share of a
client is not known. From Volta on NVML lists the clients and their memory."""


class Device(NamedTuple):
    """A GPU without MIG, or a MIG device, and its processes."""

    name: str
    """The index, ``0`` or ``0:1``."""
    uuid: str
    is_mig: bool
    processes: tuple[ProcessReading, ...] | None
    """None: not known."""


class Attribution(NamedTuple):
    """What containers and the host do with the devices."""

    uses: tuple[ContainerUse, ...]
    host_uses: tuple[HostUse, ...]


class Users:
    """The processes that NVML lists, by the processes that /proc has.

    Args:
        reading: the pass over NVML.
        is_foreign: the numbers of processes that NVML lists are of another PID namespace, or may
            be: no process is then known.
        latest_start: in clock ticks since the boot. A process that started later has the number
            of one that ended.
    """

    def __init__(
        self, reading: Reading, *, is_foreign: bool = False, latest_start: int | None = None
    ) -> None:
        self.devices = tuple(_devices(reading, is_foreign=is_foreign))
        self._latest_start = latest_start
        self._numbers = {
            process.pid for device in self.devices for process in device.processes or ()
        }

    def are_in(self, container: Container) -> bool:
        """Whether a process of a container uses a device."""
        return any(map(self.is_listed, container.processes))

    def is_listed(self, process: Process) -> bool:
        """Whether NVML lists a process."""
        return process.pid in self._numbers and (
            self._latest_start is None or process.start_time <= self._latest_start
        )

    def are_on(self, held: HeldDevice, container: Container) -> bool:
        """Whether a process of a container uses a device that the container has."""
        numbers = {process.pid for process in container.processes if self.is_listed(process)}
        return any(
            process.pid in numbers
            for device in self.devices
            if _is_same(held, device)
            for process in device.processes or ()
        )

    def unknown(self, processes: Iterable[Process]) -> set[int]:
        """Return the numbers that NVML lists and none of these processes has."""
        return self._numbers - {process.pid for process in processes}


def attribute(
    users: Users,
    holders: Sequence[Holder],
    others: Iterable[Process],
    *,
    is_partial: bool = False,
) -> Attribution:
    """Return what containers do with each device that they can use or do use.

    Args:
        users: the processes that NVML lists.
        holders: the containers that have devices or use some.
        others: the processes that are in no container.
        is_partial: not all of these are seen, so a host without any may use the device.
    """
    of_host = {process.pid: process for process in others if users.is_listed(process)}
    of_holders = [
        {process.pid: process for process in holder.container.processes if users.is_listed(process)}
        for holder in holders
    ]
    listed = {**of_host}
    for processes in of_holders:
        listed.update(processes)
    uses: list[ContainerUse] = []
    host_uses: list[HostUse] = []
    for device in users.devices:
        is_shared = any(
            process.pid in listed and listed[process.pid].name == MPS_SERVER
            for process in device.processes or ()
        )
        is_timed = not is_shared and not device.is_mig
        for holder, processes in zip(holders, of_holders, strict=True):
            # A running container has a process; one without is not seen.
            own = _own(device, processes) if holder.container.processes else None
            if own or _holds(holder, device):
                uses.append(_container_use(holder, device, own, is_timed=is_timed))
        on_host = _own(device, of_host)
        if on_host or (on_host is not None and not is_partial):
            host_uses.append(
                HostUse(
                    device=device.name,
                    processes=len(on_host),
                    memory=_sum(process.memory for process in on_host),
                    utilization=_share(on_host, "utilization") if is_timed else None,
                )
            )
    return Attribution(tuple(uses), tuple(host_uses))


def _devices(reading: Reading, *, is_foreign: bool) -> Iterable[Device]:
    for gpu in reading.gpus:
        if not gpu.mig_enabled:
            yield Device(gpu.index, gpu.uuid, False, None if is_foreign else gpu.processes)
        for mig in gpu.mig:
            yield Device(mig.index, mig.uuid, True, None if is_foreign else mig.processes)


def is_allocated(holder: Holder, uuid: str) -> bool:
    """Whether the kubelet has allocated a device to a container."""
    return any(
        name.partition("::")[0] == uuid
        for allocation in holder.allocations
        for name in allocation.ids
    )


def _holds(holder: Holder, device: Device) -> bool:
    """Whether a container can use a device.

    It cannot if its control group refuses the node, as of a node that nvidia-smi has made in it.
    """
    return any(
        held.access != REFUSED or is_allocated(holder, held.uuid)
        for held in holder.devices
        if _is_same(held, device)
    )


def _is_same(held: HeldDevice, device: Device) -> bool:
    return held.uuid == device.uuid if held.uuid and device.uuid else held.index == device.name


def _own(device: Device, processes: Mapping[int, Process]) -> list[ProcessReading] | None:
    """Return the processes that use a device, each once; None if they are not known."""
    if device.processes is None:
        return None
    return [*{item.pid: item for item in device.processes if item.pid in processes}.values()]


def _container_use(
    holder: Holder, device: Device, own: list[ProcessReading] | None, *, is_timed: bool
) -> ContainerUse:
    if own is None:
        return ContainerUse(holder=holder, device=device.name)
    names = ("utilization", "memory_utilization", "encoder_utilization", "decoder_utilization")
    shares = {name: _share(own, name) if is_timed else None for name in names}
    return ContainerUse(
        holder=holder,
        device=device.name,
        processes=len(own),
        memory=_sum(process.memory for process in own),
        **shares,
    )


def _share(processes: Iterable[ProcessReading], name: str) -> float | None:
    """Return a sum of shares of the time, which measurements may let be a little above 1."""
    shares: list[float | None] = [getattr(process, name) for process in processes]
    total = _sum(shares)
    return None if total is None else min(1.0, float(total))


Number = TypeVar("Number", int, float)


def _sum(values: Iterable[Number | None]) -> Number | None:
    """Return the sum; None if one of the values is not known."""
    numbers = list(values)
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
