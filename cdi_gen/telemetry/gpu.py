# SPDX-License-Identifier: Apache-2.0
"""Measures one GPU and its MIG devices."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from ctypes import byref, c_uint, c_void_p
from typing import NamedTuple

from cdi_gen.telemetry import (
    clock_events,
    groups,
    kept,
    memory,
    numbers,
    states,
    temperature,
    texts,
    utilization,
)
from cdi_gen.telemetry.clock_events import ClockEvents
from cdi_gen.telemetry.device import Device, GpuFault
from cdi_gen.telemetry.events import EventWatcher, XidCounts
from cdi_gen.telemetry.fields import FieldReader
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.kept import Kept
from cdi_gen.telemetry.library import SUCCESS, Nvml
from cdi_gen.telemetry.mig import MigDevice, MigDevices
from cdi_gen.telemetry.model import GpuReading, LinkReading, MigReading, ProcessReading
from cdi_gen.telemetry.nvlink import LinkReader
from cdi_gen.telemetry.pcie import PcieReader
from cdi_gen.telemetry.processes import WHOLE, Instance, ProcessReader, list_processes
from cdi_gen.telemetry.profiling import Profiler
from cdi_gen.telemetry.structures import PciInfo


class Identity(NamedTuple):
    """What a GPU is."""

    uuid: str
    pci_address: str
    model: str
    minor: int | None


class Gpu:
    """A GPU that NVML has a handle for. All calls are made in one thread."""

    def __init__(
        self,
        nvml: Nvml,
        index: int,
        wanted: Groups,
        xids: XidCounts,
        clock_event_counts: Callable[[str], Counter[str]],
    ) -> None:
        """Find the GPU.

        Args:
            nvml: initialised.
            index: NVML's.
            wanted: what is measured.
            xids: the Xid errors of all GPUs.
            clock_event_counts: returns the counts of a GPU by its UUID, which change.

        Raises:
            GpuFault: it cannot be measured.
        """
        handle = c_void_p()
        code = nvml.call("nvmlDeviceGetHandleByIndex_v2", index, byref(handle))
        if code != SUCCESS:
            raise GpuFault(nvml, code)
        self._index = index
        self._wanted = wanted
        self._xids = xids
        device = self._device = Device(nvml, handle)
        self.identity = _identity(device)
        self._texts = texts.read(device)
        self._counts = clock_event_counts(self.identity.uuid)
        self._mig = MigDevices(device)
        self._fields = FieldReader(device, wanted)
        self._links = LinkReader(device, self._fields)
        self._pcie = PcieReader(device, self._fields)
        self._profiler = Profiler(device)
        self._processes = ProcessReader(device)
        self._clock_events = ClockEvents(device, self._counts)
        self._generation = 0
        self._seldom = Kept(kept.SELDOM, self._read_seldom)
        self._slowly = Kept(kept.SLOWLY, lambda: numbers.read(device, numbers.SLOWLY, wanted))
        self._link_total = Kept(kept.SELDOM, self._links.total, until_told=True)

    def register(self, events: EventWatcher, clock_changed: Callable[[], None]) -> None:
        """Register for events, if that is needed.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        if groups.EVENTS in self._wanted or groups.ERRORS in self._wanted:
            self._generation = events.register(
                self._device, self.identity.uuid, clock_changed, self._generation
            )

    def note_clock_events(self) -> None:
        """Count the reasons for lowered clocks between two passes.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        self._clock_events.read()

    def close(self) -> None:
        """Free what NVML holds for the GPU."""
        self._profiler.close()

    def measure(self) -> GpuReading:
        """Measure the GPU.

        Raises:
            GpuFault: it cannot be measured.
        """
        self._device.begin_pass()
        divided = self._mig.read()
        quantities = self._quantities(divided is not None)
        links: tuple[LinkReading, ...] = ()
        if groups.NVLINK in self._wanted:
            quantities |= self._link_total.quantities()
        if groups.LINKS in self._wanted:
            links = self._links.each()
        events = self._read_clock_events(quantities)
        by_instance = self._processes.read() if groups.PROCESSES in self._wanted else None
        self._device.end_pass()
        processes = None if by_instance is None else by_instance.get(WHOLE, ())
        if divided is not None:
            processes = ()
        return GpuReading(
            index=str(self._index),
            **self.identity._asdict(),
            texts=self._texts,
            quantities=quantities,
            mig_enabled=divided is not None,
            mig=self._measure_mig(divided or (), by_instance),
            links=links,
            processes=processes,
            clock_events=events,
            clock_event_counts=dict(self._counts),
            xids=self._xids.counts(self.identity.uuid),
        )

    def _quantities(self, is_divided: bool) -> dict[str, float]:
        device, wanted = self._device, self._wanted
        quantities = self._seldom.quantities() | self._slowly.quantities()
        quantities |= numbers.read(device, numbers.EACH_PASS, wanted)
        quantities |= self._fields.read()
        if groups.TEMPERATURE in wanted:
            quantities |= temperature.read(device)
            if "gpu_temp_celsius" not in quantities:
                quantities |= temperature.read_gpu(device)
        if groups.UTILIZATION in wanted:
            quantities |= utilization.read(device)
        if groups.MEMORY in wanted:
            quantities |= memory.read(device) | memory.read_bar1(device)
        if groups.PROFILING in wanted and not is_divided:
            quantities |= self._profiler.read()
        if groups.PCIE in wanted and "pcie_tx_bytes_per_second" not in quantities:
            quantities |= self._pcie.read()
        if groups.STATE in wanted and self._mig.is_capable:
            quantities["mig_mode"] = int(is_divided)
        if groups.ERRORS in wanted and self._generation > 0:
            quantities["xid_error"] = self._xids.last(self.identity.uuid)
        return quantities

    def _read_seldom(self) -> dict[str, float]:
        device, wanted = self._device, self._wanted
        device.forget()
        self._fields.forget()
        return (
            numbers.read(device, numbers.SELDOM, wanted)
            | states.read(device, wanted)
            | self._fields.read_seldom()
        )

    def _read_clock_events(self, quantities: dict[str, float]) -> frozenset[str]:
        if not self._wanted & {groups.CLOCKS, groups.EVENTS}:
            return frozenset()
        bits = self._clock_events.read()
        if bits is None:
            return frozenset()
        quantities["clocks_event_reasons"] = bits
        return clock_events.names(bits)

    def _measure_mig(
        self,
        devices: tuple[MigDevice, ...],
        by_instance: dict[Instance, tuple[ProcessReading, ...]] | None,
    ) -> tuple[MigReading, ...]:
        instances: dict[int, dict[str, float]] = {}
        if groups.PROFILING in self._wanted:
            # A GPU instance has one sample, whatever the number of its compute instances.
            for instance in {mig.gpu_instance for mig in devices}:
                instances[instance] = self._profiler.read(instance)
            self._profiler.forget_instances(instances)
        return tuple(
            self._mig_reading(mig, instances.get(mig.gpu_instance, {}), by_instance)
            for mig in devices
        )

    def _mig_reading(
        self,
        mig: MigDevice,
        of_instance: dict[str, float],
        by_instance: dict[Instance, tuple[ProcessReading, ...]] | None,
    ) -> MigReading:
        uuid = self.identity.uuid
        quantities = dict(of_instance)
        if groups.MEMORY in self._wanted:
            quantities |= memory.read(mig.device)
        if groups.ERRORS in self._wanted and self._generation > 0:
            quantities["xid_error"] = self._xids.last(uuid, mig.gpu_instance)
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
            xids=self._xids.counts(uuid, mig.gpu_instance),
        )


def _identity(device: Device) -> Identity:
    """Return what the GPU is.

    Raises:
        GpuFault: it cannot be measured.
    """
    pci = PciInfo()
    device.ask("nvmlDeviceGetPciInfo_v3", byref(pci))
    uuid = ctypes.create_string_buffer(96)
    code = device.code("nvmlDeviceGetUUID", uuid, len(uuid))
    if code != SUCCESS:
        raise GpuFault(device.nvml, code)
    name = ctypes.create_string_buffer(96)
    device.ask("nvmlDeviceGetName", name, len(name))
    minor = c_uint()
    has_minor = device.ask("nvmlDeviceGetMinorNumber", byref(minor))
    return Identity(
        uuid=_text(uuid.value),
        pci_address=f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0",
        model=_text(name.value),
        minor=minor.value if has_minor else None,
    )


def _text(value: bytes) -> str:
    return value.decode("ascii", errors="replace")
