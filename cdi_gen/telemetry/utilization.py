# SPDX-License-Identifier: Apache-2.0
"""Reads the utilisation of a GPU and of its engines for video."""

from __future__ import annotations

from ctypes import byref, c_uint

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.structures import Utilization

_PERCENT = 100


def read(device: Device) -> dict[str, float]:
    """Return the shares of the last sample period; a GPU with MIG does not tell them.

    Some drivers have been seen to tell shares above the whole, which are left out.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    percents = {}
    rates = Utilization()
    if device.ask("nvmlDeviceGetUtilizationRates", byref(rates)):
        percents["gpu_util_ratio"] = rates.gpu
        percents["memory_util_ratio"] = rates.memory
    percent, period = c_uint(), c_uint()
    for key, name in (
        ("enc_util_ratio", "nvmlDeviceGetEncoderUtilization"),
        ("dec_util_ratio", "nvmlDeviceGetDecoderUtilization"),
    ):
        if device.ask(name, byref(percent), byref(period)):
            percents[key] = percent.value
    return {key: value / _PERCENT for key, value in percents.items() if value <= _PERCENT}
