# SPDX-License-Identifier: Apache-2.0
"""Finds the MIG devices of a GPU, which may be created and destroyed at any time."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint, c_void_p
from typing import NamedTuple

from cdi_gen.host.devices.nvml import MIG_PROFILE
from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.structures import MIG_ENABLED


class MigDevice(NamedTuple):
    """A MIG device of a GPU."""

    number: int
    """NVML's index of it on the GPU."""
    uuid: str
    profile: str
    gpu_instance: int
    compute_instance: int
    device: Device


class MigDevices:
    """The MIG devices of a GPU."""

    def __init__(self, gpu: Device) -> None:
        self._gpu = gpu
        self._by_uuid: dict[str, MigDevice] = {}
        self._most = 0
        self._handle = c_void_p()
        self._text = ctypes.create_string_buffer(96)
        self.is_capable = False
        """Whether the GPU can be divided; known after the first `read`."""

    def read(self) -> tuple[MigDevice, ...] | None:
        """Return the MIG devices; None if the GPU is not divided.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        current, pending = c_uint(), c_uint()
        self.is_capable = self._gpu.ask("nvmlDeviceGetMigMode", byref(current), byref(pending))
        if not self.is_capable or current.value != MIG_ENABLED:
            if self._most:
                self._most = 0
                self._by_uuid.clear()
                self._gpu.forget()
            return None
        if not self._most:
            self._gpu.forget()
            # 0 before MIG is enabled.
            self._most = self._gpu.number("nvmlDeviceGetMaxMigDeviceCount") or 0
        devices = [self._device(index) for index in range(self._most)]
        self._by_uuid = {device.uuid: device for device in devices if device is not None}
        return tuple(self._by_uuid.values())

    def _device(self, index: int) -> MigDevice | None:
        """Return the device of an index; what it is is asked once for each UUID."""
        name = "nvmlDeviceGetMigDeviceHandleByIndex"
        if not self._gpu.ask(name, index, byref(self._handle), key=index):
            return None  # no device has this index
        device = Device(self._gpu.nvml, c_void_p(self._handle.value), is_mig=True)
        if not device.ask("nvmlDeviceGetUUID", self._text, len(self._text)):
            return None
        uuid = self._text.value.decode("ascii", errors="replace")
        last = self._by_uuid.get(uuid)
        if (
            last is not None
            and last.number == index
            and last.device.handle.value == device.handle.value
        ):
            return last
        gpu_instance = device.number("nvmlDeviceGetGpuInstanceId")
        compute_instance = device.number("nvmlDeviceGetComputeInstanceId")
        if gpu_instance is None or compute_instance is None:
            return None
        device.ask("nvmlDeviceGetName", self._text, len(self._text))
        profile = MIG_PROFILE.search(self._text.value.decode("ascii", errors="replace"))
        return MigDevice(
            index, uuid, profile[1] if profile else "", gpu_instance, compute_instance, device
        )
