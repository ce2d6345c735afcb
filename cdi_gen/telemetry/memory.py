# SPDX-License-Identifier: Apache-2.0
"""Reads the memory of a GPU or a MIG device."""

from __future__ import annotations

from ctypes import byref

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.structures import MEMORY_V2, Memory, MemoryV2


def read(device: Device) -> dict[str, float]:
    """Return the memory; as DCGM counts, reserved memory is not used.

    Drivers before 510 do not tell what is reserved: they count it as used.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    quantities: dict[str, float] = {}
    memory = MemoryV2(version=MEMORY_V2)
    if device.ask("nvmlDeviceGetMemoryInfo_v2", byref(memory)):
        _store(quantities, "fb", memory)
        quantities["fb_reserved_bytes"] = memory.reserved
        if memory.total > memory.reserved:
            quantities["fb_used_ratio"] = memory.used / (memory.total - memory.reserved)
    elif device.ask("nvmlDeviceGetMemoryInfo", byref(old := Memory())):
        _store(quantities, "fb", old)
    return quantities


def read_bar1(device: Device) -> dict[str, float]:
    """Return how much of BAR1 is used, by which the CPU and other devices reach the memory.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    quantities: dict[str, float] = {}
    bar1 = Memory()
    if device.ask("nvmlDeviceGetBAR1MemoryInfo", byref(bar1)):
        _store(quantities, "bar1", bar1)
    return quantities


def _store(quantities: dict[str, float], kind: str, memory: Memory | MemoryV2) -> None:
    quantities[f"{kind}_capacity_bytes"] = memory.total
    quantities[f"{kind}_used_bytes"] = memory.used
    quantities[f"{kind}_free_bytes"] = memory.free
