# SPDX-License-Identifier: Apache-2.0
"""The types of what is known about GPUs and their containers at one time.

All text of a container (its name, its image, its labels) is chosen by a user and may be hostile.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdi_gen.containers.model import Holder
from cdi_gen.telemetry.model import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUse:
    """What a container does with one GPU or MIG device that it can use."""

    holder: Holder
    device: str
    """The index, ``0`` or ``0:1``."""
    processes: int | None = None
    """Processes of the container that use the device; None: NVML does not list processes."""
    memory: int | None = None
    """Bytes of GPU memory of its processes; 0 if it has none, None if NVML does not tell."""
    utilization: float | None = None
    """The sum of the shares of its processes, at most 1; 0 if they are idle, None if NVML does not
    tell."""
    memory_utilization: float | None = None
    encoder_utilization: float | None = None
    decoder_utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUse:
    """What the processes that are in no container do with a GPU or MIG device."""

    device: str
    processes: int
    memory: int | None = None
    utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """GPUs and their containers at one time."""

    reading: Reading
    holders: tuple[Holder, ...] = ()
    """The containers that can use a GPU; their `uses` are empty, see `ContainerUse`."""
    uses: tuple[ContainerUse, ...] = ()
    """One for each container and device."""
    host_uses: tuple[HostUse, ...] = ()
    containers: int = 0
    """The number of running containers, with or without GPUs."""
    unseen: tuple[str, ...] = ()
    """What could not be seen of containers, and why."""
