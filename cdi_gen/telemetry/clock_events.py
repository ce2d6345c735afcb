# SPDX-License-Identifier: Apache-2.0
"""Reads for which reasons a GPU has lowered its clocks, and counts how often each began."""

from __future__ import annotations

from collections import Counter

from cdi_gen.telemetry.device import Device

REASONS = {
    "gpu_idle": 0x1,
    "clocks_setting": 0x2,
    "power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
    "display_clocks": 0x100,
}
"""The bits, by the names that dcgm-exporter gives them."""


class ClockEvents:
    """The reasons of one GPU."""

    def __init__(self, device: Device, counts: Counter[str]) -> None:
        """Begin to count.

        Args:
            device: the GPU.
            counts: how often each reason began; is changed.
        """
        self._device = device
        self._counts = counts
        self._last: int | None = None

    def read(self) -> int | None:
        """Return the bits of now, and count those that were not set the last time.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        # The second name is that of drivers before 535.
        bits = self._device.large_number("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._device.large_number("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return None
        began = bits & ~(bits if self._last is None else self._last)
        self._last = bits
        for name, bit in REASONS.items():
            self._counts[name] += bool(began & bit)
        return bits


def names(bits: int) -> frozenset[str]:
    """Return the names of the reasons that are set."""
    return frozenset(name for name, bit in REASONS.items() if bits & bit)
