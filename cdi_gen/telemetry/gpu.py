# SPDX-License-Identifier: Apache-2.0
"""Measures one GPU and its MIG devices."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint, c_void_p
from typing import NamedTuple

from cdi_gen.telemetry import clocks, groups, memory, utilization
from cdi_gen.telemetry.device import Device, GpuFault
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.library import SUCCESS, Nvml
from cdi_gen.telemetry.mig import MigDevice, MigDevices
from cdi_gen.telemetry.model import GpuReading, MigReading, ProcessReading
from cdi_gen.telemetry.processes import WHOLE, Instance, ProcessReader, list_processes
from cdi_gen.telemetry.structures import PciInfo


class Identity(NamedTuple):
    """What a GPU is."""

    uuid: str
    pci_address: str
    model: str
    minor: int | None


class Gpu:
    """A GPU that NVML has a handle for. All calls are made in one thread."""

    def __init__(self, nvml: Nvml, index: int, wanted: Groups) -> None:
        """Find the GPU.

        Raises:
            GpuFault: it cannot be measured.
        """
        handle = c_void_p()
        code = nvml.call("nvmlDeviceGetHandleByIndex_v2", index, byref(handle))
        if code != SUCCESS:
            raise GpuFault(nvml, code)
        self._index = index
        self._wanted = wanted
        self._device = Device(nvml, handle)
        self.identity = _identity(self._device)
        self._constants = clocks.numbers(self._device, clocks.CONSTANTS)
        self._mig = MigDevices(self._device)
        self._processes = ProcessReader(self._device)

    def measure(self) -> GpuReading:
        """Measure the GPU.

        Raises:
            GpuFault: it cannot be measured.
        """
        wanted = self._wanted
        divided = self._mig.read()
        quantities: dict[str, float] = {}
        if groups.CLOCKS in wanted:
            quantities |= self._constants
            quantities |= clocks.read(self._device)
        if groups.UTILIZATION in wanted:
            quantities |= utilization.read(self._device)
        if groups.MEMORY in wanted:
            quantities |= memory.read(self._device)
        by_instance = self._processes.read() if groups.PROCESSES in wanted else None
        processes = None if by_instance is None else by_instance.get(WHOLE, ())
        if divided is not None:
            processes = ()
        return GpuReading(
            index=str(self._index),
            **self.identity._asdict(),
            quantities=quantities,
            mig_enabled=divided is not None,
            mig=tuple(self._measure_mig(mig, by_instance) for mig in divided or ()),
            processes=processes,
        )

    def _measure_mig(
        self, mig: MigDevice, by_instance: dict[Instance, tuple[ProcessReading, ...]] | None
    ) -> MigReading:
        quantities: dict[str, float] = {}
        if groups.MEMORY in self._wanted:
            quantities |= memory.read(mig.device)
        processes: tuple[ProcessReading, ...] | None = None
        if by_instance is not None:
            processes = by_instance.get((mig.gpu_instance, mig.compute_instance), ())
        elif groups.PROCESSES in self._wanted:
            # The list of the GPU needs privileges; that of a MIG device does not.
            own = list_processes(mig.device, {})
            if own is not None:
                processes = tuple(process for part in own.values() for process in part)
        return MigReading(
            index=f"{self._index}:{mig.number}",
            uuid=mig.uuid,
            profile=mig.profile,
            gpu_instance=mig.gpu_instance,
            compute_instance=mig.compute_instance,
            quantities=quantities,
            processes=processes,
        )


def _identity(device: Device) -> Identity:
    """Return what the GPU is.

    Raises:
        GpuFault: it cannot be measured.
    """
    pci = PciInfo()
    device.ask("nvmlDeviceGetPciInfo_v3", byref(pci))
    minor = c_uint()
    has_minor = device.ask("nvmlDeviceGetMinorNumber", byref(minor))
    return Identity(
        uuid=_text(device, "nvmlDeviceGetUUID"),
        pci_address=f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0",
        model=_text(device, "nvmlDeviceGetName"),
        minor=minor.value if has_minor else None,
    )


def _text(device: Device, name: str) -> str:
    buffer = ctypes.create_string_buffer(96)
    device.ask(name, buffer, len(buffer))
    return buffer.value.decode("ascii", errors="replace")
