# SPDX-License-Identifier: Apache-2.0
"""Joins what NVML measures with the containers that run: one snapshot a pass."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from cdi_gen.containers import allocations, holders
from cdi_gen.containers.allocations import Allocations
from cdi_gen.containers.discovery import Discovery, discover
from cdi_gen.containers.model import Container, Holder
from cdi_gen.host import Where
from cdi_gen.inventory import Inventory
from cdi_gen.metrics import pid_namespace
from cdi_gen.metrics.attribution import Users, attribute
from cdi_gen.metrics.gpus import Gpus
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.telemetry.model import Reading


class Telemetry(Protocol):
    """What measures the GPUs: `cdi_gen.telemetry.Telemetry`."""

    def read(self) -> Reading:
        """Return the result of one pass over the GPUs."""
        ...


class Collector:
    """Makes snapshots of one host, one at a time.

    Args:
        where: the host's layout.
        telemetry: measures the GPUs.
    """

    def __init__(self, where: Where, telemetry: Telemetry) -> None:
        self._where = where
        self._telemetry = telemetry
        self._gpus = Gpus(where)
        self._proc = f"{where.host_root.rstrip('/')}/proc"

    def collect(self) -> Snapshot:
        """Return the state now. What cannot be seen is in `Snapshot.unseen`; nothing is raised."""
        # A process that starts after this moment cannot be one that NVML lists; a start time has
        # hundredths of a second.
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        latest_start = int(now * os.sysconf("SC_CLK_TCK")) + 1
        reading = self._telemetry.read()
        unseen: list[str] = []
        inventory = self._gpus.inventory(reading)
        if self._gpus.fault:
            unseen.append(f"device nodes of GPUs: {self._gpus.fault}")
        discovery = self._discovery(inventory, unseen)
        foreign = pid_namespace.fault(self._proc, reading.driver_version)
        if foreign:
            unseen.append(f"processes that use GPUs: {foreign}")
        users = Users(reading, is_foreign=bool(foreign), latest_start=latest_start)
        allocated, fault = allocations.of_kubelet(self._where.host_root)
        unseen += [fault] if fault else []
        holding = _holders(discovery.containers, inventory, users, allocated)
        attribution = attribute(users, holding, discovery.others)
        return Snapshot(
            reading=reading,
            holders=holding,
            uses=attribution.uses,
            host_uses=attribution.host_uses,
            containers=len(discovery.containers),
            unseen=tuple(unseen),
        )

    def _discovery(self, inventory: Inventory | None, unseen: list[str]) -> Discovery:
        nodes = holders.host_nodes(inventory) if inventory else ()
        try:
            discovery = discover(self._where.host_root, nodes)
        except OSError as error:
            unseen.append(f"containers: {self._proc}: {error.strerror}")
            return Discovery((), (), ())
        unseen += discovery.unseen
        return discovery


def _holders(
    containers: Sequence[Container],
    inventory: Inventory | None,
    users: Users,
    allocated: Allocations,
) -> tuple[Holder, ...]:
    by_first = {container.first.pid: container for container in containers}
    holding = []
    for container in containers:
        devices = holders.held_devices(container.nodes, inventory) if inventory else ()
        allocated_to = allocations.of_container(container, allocated)
        if devices or allocated_to or users.are_in(container):
            is_all = inventory is not None and holders.has_all(container, devices, inventory)
            holding.append(
                Holder(
                    container=_of_outer(container, by_first),
                    devices=devices,
                    has_all=is_all,
                    allocations=allocated_to,
                )
            )
    return tuple(holding)


def _of_outer(container: Container, by_first: Mapping[int, Container]) -> Container:
    """Return a container with the pod, unit and user of the container that it runs in."""
    origin = container.origin
    outer = container
    for _ in by_first:
        inner, outer = outer, by_first.get(outer.within or 0, outer)
        if outer is inner:
            break
        origin = replace(
            origin,
            pod=origin.pod or outer.origin.pod,
            unit=origin.unit or outer.origin.unit,
            user=origin.user or outer.origin.user,
        )
    return container if origin is container.origin else replace(container, origin=origin)
