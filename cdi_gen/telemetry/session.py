# SPDX-License-Identifier: Apache-2.0
"""NVML from its initialisation to its end, with a thread for each GPU."""

from __future__ import annotations

import os
from ctypes import byref, c_int, c_uint

from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.telemetry.gpu import Gpu, Identity
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.library import SUCCESS, Nvml
from cdi_gen.telemetry.model import GpuReading
from cdi_gen.telemetry.worker import Job, Worker


class Slot:
    """The place of a GPU in NVML's order, and the thread that measures it."""

    def __init__(self, nvml: Nvml, index: int, wanted: Groups) -> None:
        self.index = index
        self.identity: Identity | None = None
        self.job: Job[GpuReading] | None = None
        self._nvml = nvml
        self._wanted = wanted
        self._gpu: Gpu | None = None
        self._worker: Worker | None = None

    def start(self) -> Job[GpuReading] | None:
        """Begin to measure; None if the GPU has not answered the last time."""
        if self._worker is None:
            self._worker = Worker(f"gpu {self.index}")
        if self._worker.is_busy:
            return None
        return self._worker.submit(self._measure)

    @property
    def is_busy(self) -> bool:
        """Whether the GPU has not answered yet."""
        return self._worker is not None and self._worker.is_busy

    def stop(self, until: float) -> None:
        """End the thread, unless the GPU hangs until this time of the monotonic clock."""
        if self._worker is not None:
            self._worker.stop()
            self._worker.join(until)

    def _measure(self) -> GpuReading:
        """Measure the GPU.

        Raises:
            GpuFault: it cannot be measured; it is looked for again the next time.
        """
        gpu, self._gpu = self._gpu, None
        if gpu is None:
            gpu = Gpu(self._nvml, self.index, self._wanted)
            self.identity = gpu.identity
        reading = gpu.measure()
        self._gpu = gpu
        return reading


class Session:
    """NVML, initialised."""

    def __init__(self, path: str, gpu_directory: str, wanted: Groups) -> None:
        """Load and initialise NVML.

        Args:
            path: the library.
            gpu_directory: where the kernel module lists the GPUs, to notice that they change.
            wanted: what is measured.

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
        nvml.call("nvmlDeviceGetCount_v2", byref(count))
        self.slots = tuple(Slot(nvml, index, wanted) for index in range(count.value))

    def has_changed(self) -> bool:
        """Return whether the kernel module has other GPUs than at the start."""
        return self._listed() != self._gpus

    def is_hung(self) -> bool:
        """Return whether a GPU has not answered yet."""
        return any(slot.is_busy for slot in self.slots)

    def stop(self, until: float) -> None:
        """End the threads of the GPUs that answer until this time of the monotonic clock."""
        for slot in self.slots:
            slot.stop(until)

    def close(self) -> None:
        """End NVML; it must not be used by any thread."""
        self._nvml.call("nvmlShutdown")

    def _listed(self) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self._gpu_directory))
        except OSError:
            return frozenset()
