# SPDX-License-Identifier: Apache-2.0
"""Reads the temperature of a GPU from drivers without the old function for it."""

from __future__ import annotations

from ctypes import byref

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.structures import TEMPERATURE_GPU, TEMPERATURE_V1, Temperature


def read(device: Device) -> dict[str, float]:
    """Return the temperature of the GPU.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    temperature = Temperature(version=TEMPERATURE_V1, sensor=TEMPERATURE_GPU)
    if not device.ask("nvmlDeviceGetTemperatureV", byref(temperature)):
        return {}
    return {"gpu_temp_celsius": temperature.celsius}
