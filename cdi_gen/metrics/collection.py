# SPDX-License-Identifier: Apache-2.0
"""Joins what NVML measures with the containers that run: one snapshot a pass."""

from __future__ import annotations

import os
import time
from typing import Protocol

from cdi_gen.containers import allocations, holders
from cdi_gen.containers.discovery import Discovery
from cdi_gen.containers.following import Following
from cdi_gen.host import Where
from cdi_gen.inventory import Inventory
from cdi_gen.metrics import pid_namespace
from cdi_gen.metrics.attribution import Users, attribute
from cdi_gen.metrics.gpus import Gpus
from cdi_gen.metrics.holding import holding_containers
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
        self._following = Following(where.host_root)
        self._proc = f"{where.host_root.rstrip('/')}/proc"
        self._is_partial = pid_namespace.is_partial(where.host_root)

    def collect(self) -> Snapshot:
        """Return the state now. What cannot be seen is in `Snapshot.unseen`; nothing is raised."""
        # A process that starts after this moment cannot be one that NVML lists; a start time has
        # hundredths of a second.
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        latest_start = int(now * os.sysconf("SC_CLK_TCK")) + 1
        reading = self._telemetry.read()
        unseen: list[str] = []
        inventory = self._gpus.inventory(reading)
        if self._gpus.fault and reading.gpus:
            unseen.append(f"device nodes of GPUs: {self._gpus.fault}")
        discovery = self._discovery(inventory, unseen)
        foreign = ""
        if reading.gpus:
            foreign = pid_namespace.fault(self._proc, reading.driver_version)
        if foreign:
            unseen.append(f"processes that use GPUs: {foreign}")
        elif self._is_partial:
            unseen.append(f"processes and containers outside of this one: {pid_namespace.HINT}")
        users = Users(reading, is_foreign=bool(foreign), latest_start=latest_start)
        invisible = 0 if foreign else _invisible(users, discovery)
        if invisible:
            unseen.append(f"{invisible} processes that use GPUs: /proc does not show them")
        allocated, fault = allocations.of_kubelet(self._where.host_root)
        unseen += [fault] if fault else []
        holding = holding_containers(discovery.containers, inventory, users, allocated)
        attribution = attribute(users, holding, discovery.others, is_partial=self._is_partial)
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
            discovery = self._following.discover(nodes)
        except OSError as error:
            unseen.append(f"containers: {self._proc}: {error.strerror}")
            return Discovery((), (), ())
        unseen += discovery.unseen
        return discovery


def _invisible(users: Users, discovery: Discovery) -> int:
    """Return how many processes use GPUs that exist and that /proc does not list."""
    processes = [*discovery.others]
    for container in discovery.containers:
        processes += container.processes
    return sum(1 for pid in users.unknown(processes) if _exists(pid))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
