# SPDX-License-Identifier: Apache-2.0
"""Reads clocks, temperature, power, fan and PCIe link of a GPU."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.structures import CLOCK_MEMORY, CLOCK_SM, CLOCK_VIDEO, TEMPERATURE_GPU

_MEGA, _MILLI, _PERCENT = 1e6, 1e3, 100


class Number(NamedTuple):
    """A function that gives an unsigned int, and how it becomes a base unit."""

    function: str
    arguments: tuple[int, ...] = ()
    factor: float = 1
    divisor: float = 1


NUMBERS = {
    "sm_clock_hertz": Number("nvmlDeviceGetClockInfo", (CLOCK_SM,), _MEGA),
    "memory_clock_hertz": Number("nvmlDeviceGetClockInfo", (CLOCK_MEMORY,), _MEGA),
    "video_clock_hertz": Number("nvmlDeviceGetClockInfo", (CLOCK_VIDEO,), _MEGA),
    "sm_app_clock_hertz": Number("nvmlDeviceGetApplicationsClock", (CLOCK_SM,), _MEGA),
    "memory_app_clock_hertz": Number("nvmlDeviceGetApplicationsClock", (CLOCK_MEMORY,), _MEGA),
    "gpu_temp_celsius": Number("nvmlDeviceGetTemperature", (TEMPERATURE_GPU,)),
    "board_power_watts": Number("nvmlDeviceGetPowerUsage", divisor=_MILLI),
    "power_mgmt_limit_watts": Number("nvmlDeviceGetPowerManagementLimit", divisor=_MILLI),
    "enforced_power_limit_watts": Number("nvmlDeviceGetEnforcedPowerLimit", divisor=_MILLI),
    "fan_speed_ratio": Number("nvmlDeviceGetFanSpeed", divisor=_PERCENT),
    "pcie_replay_total": Number("nvmlDeviceGetPcieReplayCounter"),
    "pcie_link_gen": Number("nvmlDeviceGetCurrPcieLinkGeneration"),
    "pcie_link_width": Number("nvmlDeviceGetCurrPcieLinkWidth"),
    "pstate": Number("nvmlDeviceGetPerformanceState"),
}

CONSTANTS = {
    "sm_max_clock_hertz": Number("nvmlDeviceGetMaxClockInfo", (CLOCK_SM,), _MEGA),
    "memory_max_clock_hertz": Number("nvmlDeviceGetMaxClockInfo", (CLOCK_MEMORY,), _MEGA),
    "video_max_clock_hertz": Number("nvmlDeviceGetMaxClockInfo", (CLOCK_VIDEO,), _MEGA),
}
"""Of what does not change while the driver is loaded."""


def read(device: Device) -> dict[str, float]:
    """Return what the device tells of `NUMBERS`, and its energy.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    quantities = numbers(device, NUMBERS)
    energy = device.large_number("nvmlDeviceGetTotalEnergyConsumption")
    if energy is not None:
        quantities["gpu_energy_joules_total"] = energy / _MILLI
    return quantities


def numbers(device: Device, table: dict[str, Number]) -> dict[str, float]:
    """Return what the device tells of a table.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    quantities = {}
    for key, (name, arguments, factor, divisor) in table.items():
        number = device.number(name, *arguments)
        if number is not None:
            quantities[key] = number * factor / divisor
    return quantities
