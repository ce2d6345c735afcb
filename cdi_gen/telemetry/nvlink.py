# SPDX-License-Identifier: Apache-2.0
"""Reads what goes through the NVLinks of a GPU, from their counters in two passes."""

from __future__ import annotations

import time
from ctypes import byref, c_uint

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.fields import FieldReader
from cdi_gen.telemetry.model import LinkReading

_MOST_LINKS = 18

_COUNTERS = ((138, 139, 1024), (202, 204, 1))
"""Fields of sent and received data, and their unit in bytes; the second on NVLink 5."""


class LinkReader:
    """Reads the NVLinks of one GPU."""

    def __init__(self, device: Device, fields: FieldReader) -> None:
        self._device = device
        self._fields = fields
        self._state = c_uint()
        self._last: dict[int, tuple[float, float]] = {}
        self._last_time = 0.0

    def read(self) -> tuple[dict[str, float], tuple[LinkReading, ...]]:
        """Return the sum of the throughput, and the active links.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        active = self._active()
        counters = self._counters(active) if active else {}
        now = time.monotonic()
        seconds = now - self._last_time
        links = []
        total = 0.0
        is_known = False
        for number in active:
            quantities: dict[str, float] = {}
            last, counter = self._last.get(number), counters.get(number)
            if last and counter and counter[0] >= last[0] and counter[1] >= last[1]:
                sent, received = (
                    (new - old) / seconds for new, old in zip(counter, last, strict=True)
                )
                quantities = {
                    "nvlink_throughput_bytes_per_second": sent + received,
                    "nvlink_tx_bytes_per_second": sent,
                    "nvlink_rx_bytes_per_second": received,
                }
                total += sent + received
                is_known = True
            links.append(LinkReading(number=number, quantities=quantities))
        self._last, self._last_time = counters, now
        sums = {"nvlink_throughput_bytes_per_second": total} if is_known else {}
        return sums, tuple(links)

    def _active(self) -> list[int]:
        """Return the numbers of the active links."""
        numbers = []
        for number in range(_MOST_LINKS):
            answered = self._device.ask(
                "nvmlDeviceGetNvLinkState", number, byref(self._state), key=number
            )
            if not answered and number == 0:
                break  # a GPU without NVLink
            if answered and self._state.value:
                numbers.append(number)
        return numbers

    def _counters(self, numbers: list[int]) -> dict[int, tuple[float, float]]:
        """Return the bytes that each link has sent and received."""
        for sent, received, unit in _COUNTERS:
            requests = [(field, number) for number in numbers for field in (sent, received)]
            values = self._fields.values(requests)
            if values:
                return {
                    number: (values[sent, number] * unit, values[received, number] * unit)
                    for number in numbers
                    if (sent, number) in values and (received, number) in values
                }
        return {}
