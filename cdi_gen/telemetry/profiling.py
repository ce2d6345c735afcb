# SPDX-License-Identifier: Apache-2.0
"""Reads the performance counters of a GPU from Hopper on: GPM, GPU Performance Monitoring.

A value is that of the time between two samples, which are those of two passes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from ctypes import Structure, byref, c_uint, c_void_p
from typing import Any

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.library import SUCCESS
from cdi_gen.telemetry.structures import GPM_VERSION, GpmMetric, GpmSupport

_PERCENT, _MIB = 0.01, 1024 * 1024

METRICS_OF_INSTANCE: dict[str, tuple[int, float]] = {
    "gr_engine_util_ratio": (1, _PERCENT),
    "sm_util_ratio": (2, _PERCENT),
    "sm_occupancy_ratio": (3, _PERCENT),
    "int_util_ratio": (4, _PERCENT),
    "tensor_util_ratio": (5, _PERCENT),
    "dfma_util_ratio": (6, _PERCENT),
    "hmma_util_ratio": (7, _PERCENT),
    "imma_util_ratio": (9, _PERCENT),
    "dram_util_ratio": (10, _PERCENT),
    "fp64_util_ratio": (11, _PERCENT),
    "fp32_util_ratio": (12, _PERCENT),
    "fp16_util_ratio": (13, _PERCENT),
}
"""GPM's number of each metric and the factor that makes it a base unit."""

METRICS_OF_GPU = METRICS_OF_INSTANCE | {
    "pcie_tx_bytes_per_second": (20, _MIB),
    "pcie_rx_bytes_per_second": (21, _MIB),
    "nvlink_rx_bytes_per_second": (60, _MIB),
    "nvlink_tx_bytes_per_second": (61, _MIB),
}


class _Request(Structure):
    """nvmlGpmMetricsGet_t."""

    _fields_ = (
        ("version", c_uint),
        ("count", c_uint),
        ("first", c_void_p),
        ("second", c_void_p),
        ("metrics", GpmMetric * 512),
    )
    """Room for all metrics that NVML knows, 477 in CUDA 13.3, or more: it may write all of them."""


class _Metrics:
    """A request for metrics, whose memory is used in each pass."""

    def __init__(self, metrics: dict[str, tuple[int, float]]) -> None:
        self._keys = tuple((key, factor) for key, (_, factor) in metrics.items())
        self._request: Any = _Request(version=GPM_VERSION, count=len(metrics))
        for metric, (number, _) in zip(self._request.metrics, metrics.values(), strict=False):
            metric.id = number

    def read(self, device: Device, first: c_void_p, second: c_void_p) -> dict[str, float]:
        """Return what the GPU tells of the time between two samples."""
        self._request.first, self._request.second = first, second
        if device.nvml.call("nvmlGpmMetricsGet", byref(self._request)) != SUCCESS:
            return {}
        return {
            key: metric.value * factor
            for (key, factor), metric in zip(self._keys, self._request.metrics, strict=False)
            if metric.code == SUCCESS and math.isfinite(metric.value)
        }


class Profiler:
    """Samples of one GPU and its GPU instances."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._samples: dict[int | None, list[c_void_p]] = {}
        """By GPU instance; the GPU is None. The last sample that was taken, and a spare one."""
        self._complete: set[int | None] = set()
        support = GpmSupport(version=GPM_VERSION)
        self._supported = bool(
            device.ask("nvmlGpmQueryDeviceSupport", byref(support)) and support.is_supported
        )
        if self._supported:
            self._of_gpu = _Metrics(METRICS_OF_GPU)
            self._of_instance = _Metrics(METRICS_OF_INSTANCE)

    def read(self, instance: int | None = None) -> dict[str, float]:
        """Return the quantities of the GPU or a GPU instance; none in the first pass.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        if not self._supported:
            return {}
        samples = self._samples.get(instance)
        if samples is None:
            samples = self._allocate()
            if samples is None:
                return {}
            self._samples[instance] = samples
        last, spare = samples
        if instance is None:
            taken = self._device.ask("nvmlGpmSampleGet", spare)
        else:
            taken = self._device.ask("nvmlGpmMigSampleGet", c_uint(instance), spare, key=instance)
        if not taken:
            self._complete.discard(instance)
            return {}
        samples[:] = spare, last
        if instance not in self._complete:
            self._complete.add(instance)
            return {}
        metrics = self._of_gpu if instance is None else self._of_instance
        return metrics.read(self._device, last, spare)

    def forget_instances(self, existing: Collection[int]) -> None:
        """Free the samples of GPU instances that do not exist any more."""
        for instance in [*self._samples]:
            if instance is not None and instance not in existing:
                self._free(self._samples.pop(instance))
                self._complete.discard(instance)

    def close(self) -> None:
        """Free all samples."""
        for samples in self._samples.values():
            self._free(samples)
        self._samples.clear()
        self._complete.clear()

    def _allocate(self) -> list[c_void_p] | None:
        samples = [c_void_p(), c_void_p()]
        for index, sample in enumerate(samples):
            if self._device.nvml.call("nvmlGpmSampleAlloc", byref(sample)) != SUCCESS:
                self._free(samples[:index])
                return None
        return samples

    def _free(self, samples: list[c_void_p]) -> None:
        for sample in samples:
            self._device.nvml.call("nvmlGpmSampleFree", sample)
