# SPDX-License-Identifier: Apache-2.0
"""NVML from its initialisation to its end, with a thread for each GPU."""

from __future__ import annotations

import os
from ctypes import byref, c_int, c_uint

from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.telemetry.events import EventWatcher
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.library import SUCCESS, Nvml
from cdi_gen.telemetry.slot import Counts, Slot


class Session:
    """NVML, initialised."""

    def __init__(self, path: str, gpu_directory: str, wanted: Groups, counts: Counts) -> None:
        """Load and initialise NVML.

        Args:
            path: the library.
            gpu_directory: where the kernel module lists the GPUs, to notice that they change.
            wanted: what is measured.
            counts: what is counted from one session to the next.

        Raises:
            NvmlUnavailable: it cannot be loaded or initialised.
        """
        self._gpu_directory = gpu_directory
        self._gpus = self._listed()
        self._nvml = nvml = Nvml(path)
        code = nvml.call("nvmlInit_v2")
        if code != SUCCESS:
            raise NvmlUnavailable(f"NVML does not initialise: {nvml.error(code)}")
        self.driver_version = nvml.text("nvmlSystemGetDriverVersion")
        cuda = c_int()
        nvml.call("nvmlSystemGetCudaDriverVersion_v2", byref(cuda))
        self.cuda_version = f"{cuda.value // 1000}.{cuda.value % 1000 // 10}" if cuda.value else ""
        count = c_uint()
        code = nvml.call("nvmlDeviceGetCount_v2", byref(count))
        if code != SUCCESS:
            self.close()
            raise NvmlUnavailable(f"NVML does not count the GPUs: {nvml.error(code)}")
        self.events = EventWatcher(nvml, counts.xids)
        self.slots = tuple(
            Slot(nvml, index, wanted, counts, self.events) for index in range(count.value)
        )

    def has_changed(self) -> bool:
        """Return whether the kernel module has other GPUs than at the start."""
        return self._listed() != self._gpus

    def stop(self, until: float) -> bool:
        """End the threads; return whether all have ended at this time of the monotonic clock."""
        self.events.stop_soon()
        ended = [slot.stop(until) for slot in self.slots]
        return self.events.stop(until) and all(ended)

    def close(self) -> None:
        """End NVML; it must not be used by any thread."""
        self._nvml.call("nvmlShutdown")

    def _listed(self) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self._gpu_directory))
        except OSError:
            return frozenset()
