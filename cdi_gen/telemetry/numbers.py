# SPDX-License-Identifier: Apache-2.0
"""Reads what NVML tells of a GPU by functions that give one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cdi_gen.telemetry import groups
from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.structures import (
    CLOCK_MEMORY,
    CLOCK_SM,
    CLOCK_VIDEO,
    TEMPERATURE_GPU,
    THRESHOLD_GPU_MAX,
    THRESHOLD_MEMORY_MAX,
    THRESHOLD_SHUTDOWN,
    THRESHOLD_SLOWDOWN,
)

_MEGA, _MILLI, _PERCENT = 1e6, 1e3, 100


class Number(NamedTuple):
    """A function, and how its number becomes a base unit."""

    function: str
    arguments: tuple[int, ...] = ()
    factor: float = 1
    divisor: float = 1
    is_large: bool = False
    """The number is an unsigned long long."""


Table = Mapping[str, Mapping[str, Number]]
"""By group and key."""

EACH_PASS: Table = {
    groups.CLOCKS: {
        "sm_clock_hertz": Number("nvmlDeviceGetClockInfo", (CLOCK_SM,), _MEGA),
        "memory_clock_hertz": Number("nvmlDeviceGetClockInfo", (CLOCK_MEMORY,), _MEGA),
        "video_clock_hertz": Number("nvmlDeviceGetClockInfo", (CLOCK_VIDEO,), _MEGA),
    },
    groups.TEMPERATURE: {
        # NVIDIA will remove it in CUDA 14; `temperature` reads what replaces it.
        "gpu_temp_celsius": Number("nvmlDeviceGetTemperature", (TEMPERATURE_GPU,)),
        "fan_speed_ratio": Number("nvmlDeviceGetFanSpeed", divisor=_PERCENT),
    },
    groups.POWER: {
        "board_power_watts": Number("nvmlDeviceGetPowerUsage", divisor=_MILLI),
    },
    groups.PCIE: {
        "pcie_link_gen": Number("nvmlDeviceGetCurrPcieLinkGeneration"),
        "pcie_link_width": Number("nvmlDeviceGetCurrPcieLinkWidth"),
    },
    groups.STATE: {"gpu_pstate": Number("nvmlDeviceGetPerformanceState")},
}

SLOWLY: Table = {
    groups.POWER: {
        "gpu_energy_joules_total": Number(
            "nvmlDeviceGetTotalEnergyConsumption", divisor=_MILLI, is_large=True
        ),
    },
}
"""What NVML takes long for: 3 to 8 ms for the energy of an H200."""

_THRESHOLD = "nvmlDeviceGetTemperatureThreshold"

SELDOM: Table = {
    groups.CLOCKS: {
        "sm_app_clock_hertz": Number("nvmlDeviceGetApplicationsClock", (CLOCK_SM,), _MEGA),
        "memory_app_clock_hertz": Number("nvmlDeviceGetApplicationsClock", (CLOCK_MEMORY,), _MEGA),
        "sm_max_clock_hertz": Number("nvmlDeviceGetMaxClockInfo", (CLOCK_SM,), _MEGA),
        "memory_max_clock_hertz": Number("nvmlDeviceGetMaxClockInfo", (CLOCK_MEMORY,), _MEGA),
        "video_max_clock_hertz": Number("nvmlDeviceGetMaxClockInfo", (CLOCK_VIDEO,), _MEGA),
    },
    groups.TEMPERATURE: {
        "gpu_temp_shutdown_celsius": Number(_THRESHOLD, (THRESHOLD_SHUTDOWN,)),
        "gpu_temp_slowdown_celsius": Number(_THRESHOLD, (THRESHOLD_SLOWDOWN,)),
        "memory_max_op_temp_celsius": Number(_THRESHOLD, (THRESHOLD_MEMORY_MAX,)),
        "gpu_max_op_temp_celsius": Number(_THRESHOLD, (THRESHOLD_GPU_MAX,)),
    },
    groups.POWER: {
        "board_power_limit_requested_watts": Number(
            "nvmlDeviceGetPowerManagementLimit", divisor=_MILLI
        ),
        "board_power_limit_enforced_watts": Number(
            "nvmlDeviceGetEnforcedPowerLimit", divisor=_MILLI
        ),
        "board_power_limit_default_watts": Number(
            "nvmlDeviceGetPowerManagementDefaultLimit", divisor=_MILLI
        ),
    },
    groups.PCIE: {
        "pcie_replay_total": Number("nvmlDeviceGetPcieReplayCounter"),
        "pcie_max_link_gen": Number("nvmlDeviceGetMaxPcieLinkGeneration"),
        "pcie_max_link_width": Number("nvmlDeviceGetMaxPcieLinkWidth"),
    },
    groups.STATE: {
        "gpu_compute_mode": Number("nvmlDeviceGetComputeMode"),
        "gpu_persistence_mode": Number("nvmlDeviceGetPersistenceMode"),
    },
}
"""What seldom changes."""


def read(device: Device, table: Table, wanted: Groups) -> dict[str, float]:
    """Return what the device tells of the wanted groups of a table.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    quantities = {}
    for group, by_key in table.items():
        if group not in wanted:
            continue
        for key, (name, arguments, factor, divisor, is_large) in by_key.items():
            number = device.large_number(name) if is_large else device.number(name, *arguments)
            if number is not None:
                quantities[key] = number * factor / divisor
    return quantities
