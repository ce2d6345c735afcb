# SPDX-License-Identifier: Apache-2.0
"""Texts of a GPU that never change: its serial number, and versions in its flash memory."""

from __future__ import annotations

import ctypes

from cdi_gen.telemetry.device import Device

_SIZE = 96

_FUNCTIONS = {
    "serial": "nvmlDeviceGetSerial",
    "vbios_version": "nvmlDeviceGetVbiosVersion",
    "inforom_image_version": "nvmlDeviceGetInforomImageVersion",
}
_INFOROM_OBJECTS = {
    "inforom_oem_version": 0,
    "inforom_ecc_version": 1,
    "inforom_power_version": 2,
}
"""Numbers of nvmlInforomObject_t."""


def read(device: Device) -> dict[str, str]:
    """Return the texts that the GPU has, by the keys of labels in ``metrics.json``.

    Raises:
        GpuFault: it cannot be measured.
    """
    buffer = ctypes.create_string_buffer(_SIZE)
    texts = {}
    for key, function in _FUNCTIONS.items():
        if device.ask(function, buffer, _SIZE):
            texts[key] = buffer.value.decode("ascii", errors="replace")
    for key, number in _INFOROM_OBJECTS.items():
        if device.ask("nvmlDeviceGetInforomVersion", number, buffer, _SIZE, key=number):
            texts[key] = buffer.value.decode("ascii", errors="replace")
    return texts
