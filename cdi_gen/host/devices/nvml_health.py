# SPDX-License-Identifier: Apache-2.0
"""Waits for NVML's events of GPUs, and checks whether GPUs are usable.

A long-running process uses it; see ``cdi_gen.kubernetes.health``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.host.devices.nvml import initialised

_RECOVERY_ACTION = 230
"""NVML_FI_DEV_GET_GPU_RECOVERY_ACTION; nvidia-ml-py before 12.560 does not have the name."""

_RECOVERIES = {
    0: "",
    1: "a reset of the GPU",
    2: "a restart of the node",
    3: "an end of the peer-to-peer traffic",
    4: "an end of the peer-to-peer traffic and a reset",
    5: "a recovery of the IMEX domain",
    6: "a reset of the bus",
    7: "a restart of the system",
}


class GpuEvent(NamedTuple):
    """An Xid error."""

    gpu_uuid: str
    xid: int
    gpu_instance: int
    compute_instance: int


class GpuCheck(NamedTuple):
    """The result of a check; see ``cdi_gen.kubernetes.health.judge.Check``."""

    gpu_uuid: str
    fault: str
    recovery: str | None


class HealthMonitor:
    """NVML's events of some GPUs."""

    def __init__(self, pynvml: Any, gpus: dict[str, str]) -> None:
        """Register the events of the GPUs.

        Args:
            pynvml: the module, initialised.
            gpus: the UUIDs of the GPUs, and their PCI addresses.
        """
        self._nvml = pynvml
        self._addresses = gpus
        self._set = pynvml.nvmlEventSetCreate()
        self.unwatched: dict[str, str] = {}
        """The UUIDs of GPUs whose events cannot be had, and why."""
        for uuid, address in gpus.items():
            try:
                handle = pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
                wanted = pynvml.nvmlEventTypeXidCriticalError
                supported = pynvml.nvmlDeviceGetSupportedEventTypes(handle)
                if not supported & wanted:
                    self.unwatched[uuid] = "the GPU does not report Xid errors"
                    continue
                pynvml.nvmlDeviceRegisterEvents(handle, wanted, self._set)
            except pynvml.NVMLError as error:
                self.unwatched[uuid] = str(error)

    def wait(self, milliseconds: int) -> GpuEvent | None:
        """Return the next event; None if there is none within this time.

        Raises:
            NvmlUnavailable: NVML reports an error: the events of all GPUs end.
        """
        nvml = self._nvml
        try:
            data = nvml.nvmlEventSetWait_v2(self._set, milliseconds)
            if not data.eventType & nvml.nvmlEventTypeXidCriticalError:
                return None
            uuid = nvml.nvmlDeviceGetUUID(data.device)
        except nvml.NVMLError_Timeout:
            return None
        except nvml.NVMLError as error:
            raise NvmlUnavailable(f"NVML reports: {error}") from error
        return GpuEvent(
            uuid if isinstance(uuid, str) else uuid.decode(),
            int(data.eventData),
            int(data.gpuInstanceId),
            int(data.computeInstanceId),
        )

    def checks(self) -> Iterator[GpuCheck]:
        """Check each GPU: it answers, no row waits for a reset, the driver asks for no recovery."""
        nvml = self._nvml
        for uuid, address in self._addresses.items():
            try:
                handle = nvml.nvmlDeviceGetHandleByPciBusId(address.encode())
                nvml.nvmlDeviceGetUUID(handle)
                self._read_memory(handle)
            except nvml.NVMLError as error:
                yield GpuCheck(uuid, f"NVML reports: {error}", None)
                continue
            yield GpuCheck(uuid, self._rows(handle), self._recovery(handle))

    def _read_memory(self, handle: Any) -> None:
        """Ask for the memory, which a GPU that is lost does not answer.

        Raises:
            NVMLError: the GPU has a fault. One that shares the memory of the system, as in DGX
                Spark, has none: it does not support the call.
        """
        nvml = self._nvml
        with suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            nvml.nvmlDeviceGetMemoryInfo(handle)

    def _rows(self, handle: Any) -> str:
        nvml = self._nvml
        try:
            _, _, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
        except nvml.NVMLError:
            return ""  # a GPU before Ampere
        if failed:
            return "the remapping of a row of its memory has failed"
        return "a row of its memory is remapped at the next reset" if pending else ""

    def _recovery(self, handle: Any) -> str | None:
        nvml = self._nvml
        try:
            (value,) = nvml.nvmlDeviceGetFieldValues(handle, [_RECOVERY_ACTION])
        except nvml.NVMLError:
            return None
        if value.nvmlReturn != nvml.NVML_SUCCESS:
            return None
        number = int(value.value.uiVal)
        return _RECOVERIES.get(number, f"recovery action {number}")


@contextmanager
def monitor(library: str, gpus: dict[str, str]) -> Iterator[HealthMonitor]:
    """Initialise NVML and register the events of these GPUs, given as for `HealthMonitor`.

    Raises:
        NvmlUnavailable: the library does not load, does not initialise or has no events.
    """
    with initialised(library) as pynvml:
        try:
            health_monitor = HealthMonitor(pynvml, gpus)
        except pynvml.NVMLError as error:
            raise NvmlUnavailable(f"NVML has no events: {error}") from error
        yield health_monitor
