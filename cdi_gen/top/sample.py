# SPDX-License-Identifier: Apache-2.0
"""What is shown: a snapshot, with what it does not have, the commands of processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.telemetry import groups
from cdi_gen.telemetry.model import GpuReading, MigReading, Reading

SHOWN: groups.Groups = frozenset(
    {groups.CLOCKS, groups.TEMPERATURE, groups.POWER, groups.UTILIZATION, groups.MEMORY}
    | {groups.PROFILING, groups.EVENTS, groups.PROCESSES}
)
"""The groups of values that the tables have. NVML takes 40 ms to measure the traffic of PCIe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a process runs; it chooses all of it."""

    user: str
    text: str
    """The command line, or the kernel's name of the process in brackets."""
    is_complete: bool = True
    """Whether it is the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The result of one pass."""

    snapshot: Snapshot
    commands: Mapping[int, Command] = field(default_factory=dict)
    """By the number of the process."""


def devices(reading: Reading) -> dict[str, GpuReading | MigReading]:
    """Return GPUs and MIG devices by their index, each MIG device after its GPU."""
    by_index: dict[str, GpuReading | MigReading] = {}
    for gpu in reading.gpus:
        by_index[gpu.index] = gpu
        by_index |= {mig.index: mig for mig in gpu.mig}
    return by_index


def utilization(device: GpuReading | MigReading) -> float | None:
    """Return the utilisation of a device; None if NVML does not tell.

    NVML has none for a MIG device, nor for a GPU with MIG devices; GPM has that of their engines.
    """
    quantities = device.quantities
    return quantities.get("gpu_util_ratio", quantities.get("gr_engine_util_ratio"))
