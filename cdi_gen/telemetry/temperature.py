# SPDX-License-Identifier: Apache-2.0
"""Reads the temperature of a GPU by the functions that give a structure."""

from __future__ import annotations

from ctypes import byref

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.structures import (
    MARGIN_TEMPERATURE_V1,
    TEMPERATURE_GPU,
    TEMPERATURE_V1,
    MarginTemperature,
    Temperature,
)


def read(device: Device) -> dict[str, float]:
    """Return the degrees to the temperature at which the GPU slows down.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    margin = MarginTemperature(version=MARGIN_TEMPERATURE_V1)
    if not device.ask("nvmlDeviceGetMarginTemperature", byref(margin)):
        return {}
    return {"gpu_temp_margin_celsius": margin.celsius}


def read_gpu(device: Device) -> dict[str, float]:
    """Return the temperature of the GPU, of drivers without the old function for it.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    temperature = Temperature(version=TEMPERATURE_V1, sensor=TEMPERATURE_GPU)
    if not device.ask("nvmlDeviceGetTemperatureV", byref(temperature)):
        return {}
    return {"gpu_temp_celsius": temperature.celsius}
