# SPDX-License-Identifier: Apache-2.0
"""Who uses the devices: containers, and the host's processes that are in no container; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cdi_gen.containers.model import ALLOWED, Container, Holder
from cdi_gen.metrics.snapshot import ContainerUse, HostUse, Snapshot
from cdi_gen.telemetry.model import ProcessReading
from cdi_gen.top.measures import total
from cdi_gen.top.sample import Command, Sample, devices

SHORT_ID = 12
HOST = "host"
"""Stands in the place of an engine for processes that are in no container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """What an occupant does with one device."""

    device: str
    access: str = ALLOWED
    """As in `cdi_gen.containers.HeldDevice`."""
    processes: int | None = None
    memory: int | None = None
    utilization: float | None = None
    encoder_utilization: float | None = None
    decoder_utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupantProcess:
    """A process that uses a device."""

    pid: int
    user: str
    command: str
    device: str
    memory: int | None
    utilization: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """A container, or the processes that are in none. All text is chosen by users."""

    key: tuple[str, ...]
    """The same in each pass."""
    engine: str
    name: str
    id: str = ""
    image: str = ""
    pod: str = ""
    """``namespace/name``"""
    owner: str = ""
    """The user of a rootless container, the unit of systemd that it runs in."""
    has_all: bool = False
    uses: tuple[DeviceUse, ...] = ()
    processes: tuple[OccupantProcess, ...] = ()

    @property
    def is_host(self) -> bool:
        """Whether these are the processes that are in no container."""
        return self.engine == HOST

    @property
    def utilization(self) -> float | None:
        """The sum over its devices: 1 is one whole device."""
        return total(use.utilization for use in self.uses)

    @property
    def memory(self) -> int | None:
        """The sum over its devices."""
        memory = total(use.memory for use in self.uses)
        return None if memory is None else int(memory)


def occupants(sample: Sample) -> tuple[Occupant, ...]:
    """Return the containers that have a device, and the host if a process of it uses one."""
    snapshot = sample.snapshot
    processes = _processes(sample)
    uses: dict[int, dict[str, ContainerUse]] = {}
    for use in snapshot.uses:
        uses.setdefault(use.holder.container.first.pid, {})[use.device] = use
    containers = [
        _container(holder, uses.get(holder.container.first.pid, {}), processes)
        for holder in snapshot.holders
    ]
    of_host = _host(snapshot, processes)
    return (*containers, of_host) if of_host.uses else tuple(containers)


def key(container: Container) -> tuple[str, ...]:
    """Return what identifies a container in all passes."""
    return container.origin.engine, container.origin.id or str(container.first.pid)


def _container(
    holder: Holder,
    uses: Mapping[str, ContainerUse],
    processes: dict[int, list[OccupantProcess]],
) -> Occupant:
    container = holder.container
    origin = container.origin
    pod = origin.pod
    access = {device.index: device.access for device in holder.devices}
    return Occupant(
        key=key(container),
        engine=origin.engine,
        name=(pod.container if pod else "") or origin.name or origin.id[:SHORT_ID],
        id=origin.id,
        image=origin.image,
        pod=f"{pod.namespace}/{pod.name}" if pod else "",
        owner=" ".join(text for text in (origin.user, origin.unit) if text),
        has_all=holder.has_all,
        uses=tuple(
            _use(index, access.get(index, ALLOWED), uses.get(index))
            for index in dict.fromkeys((*access, *uses))
        ),
        processes=tuple(
            use for process in container.processes for use in processes.pop(process.pid, ())
        )
        if any(use.processes is not None for use in uses.values())
        else (),
    )


def _use(device: str, access: str, use: ContainerUse | HostUse | None) -> DeviceUse:
    if use is None:
        return DeviceUse(device=device, access=access)
    if isinstance(use, HostUse):
        return DeviceUse(
            device=device,
            processes=use.processes,
            memory=use.memory,
            utilization=use.utilization,
        )
    return DeviceUse(
        device=device,
        access=access,
        processes=use.processes,
        memory=use.memory,
        utilization=use.utilization,
        encoder_utilization=use.encoder_utilization,
        decoder_utilization=use.decoder_utilization,
    )


def _host(snapshot: Snapshot, processes: dict[int, list[OccupantProcess]]) -> Occupant:
    """Return the host with the processes that no container has taken."""
    return Occupant(
        key=(HOST,),
        engine=HOST,
        name="in no container",
        uses=tuple(_use(use.device, ALLOWED, use) for use in snapshot.host_uses if use.processes),
        processes=tuple(process for uses in processes.values() for process in uses),
    )


def _processes(sample: Sample) -> dict[int, list[OccupantProcess]]:
    """Return the processes that use a device, by their number."""
    by_pid: dict[int, list[OccupantProcess]] = {}
    for index, device in devices(sample.snapshot.reading).items():
        for process in device.processes or ():
            command = sample.commands.get(process.pid)
            by_pid.setdefault(process.pid, []).append(_process(index, process, command))
    return by_pid


def _process(device: str, process: ProcessReading, command: Command | None) -> OccupantProcess:
    return OccupantProcess(
        pid=process.pid,
        user=command.user if command else "",
        command=command.text if command else "",
        device=device,
        memory=process.memory,
        utilization=process.utilization,
    )
