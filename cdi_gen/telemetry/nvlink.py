# SPDX-License-Identifier: Apache-2.0
"""Reads what goes through the NVLinks of a GPU, from their counters at two times."""

from __future__ import annotations

import time
from ctypes import byref, c_uint

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.fields import ALL_LINKS, FieldReader
from cdi_gen.telemetry.model import LinkReading

_MOST_LINKS = 18

_COUNTERS = ((138, 139, 1024), (202, 204, 1))
"""Fields of sent and received data, and their unit in bytes; the second on NVLink 5."""

_Rates = dict[int, tuple[float, float]]
"""Bytes per second, sent and received, by the number of a link or `ALL_LINKS`."""


class _Counters:
    """Counters of links, of the last time they were read."""

    def __init__(self, fields: FieldReader) -> None:
        self._fields = fields
        self._last: dict[int, tuple[float, float]] = {}
        self._last_time = 0.0

    def rates(self, links: list[int]) -> _Rates:
        """Return what links have carried since the last time, without those that were reset.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        counters = self._read(links)
        now = time.monotonic()
        seconds, before = now - self._last_time, self._last
        self._last, self._last_time = counters, now
        return {
            link: ((sent - before[link][0]) / seconds, (received - before[link][1]) / seconds)
            for link, (sent, received) in counters.items()
            if link in before and sent >= before[link][0] and received >= before[link][1]
        }

    def _read(self, links: list[int]) -> dict[int, tuple[float, float]]:
        for sent, received, unit in _COUNTERS:
            values = self._fields.values(
                [(field, link) for link in links for field in (sent, received)]
            )
            if values:
                return {
                    link: (values[sent, link] * unit, values[received, link] * unit)
                    for link in links
                    if (sent, link) in values and (received, link) in values
                }
        return {}


class LinkReader:
    """Reads the NVLinks of one GPU."""

    def __init__(self, device: Device, fields: FieldReader) -> None:
        self._device = device
        self._of_all = _Counters(fields)
        self._of_each = _Counters(fields)
        self._state = c_uint()

    def total(self) -> dict[str, float]:
        """Return the throughput of all links together; nothing the first time.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        rate = self._of_all.rates([ALL_LINKS]).get(ALL_LINKS)
        return {} if rate is None else {"nvlink_throughput_bytes_per_second": sum(rate)}

    def each(self) -> tuple[LinkReading, ...]:
        """Return the active links.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        active = self._active()
        rates = self._of_each.rates(active) if active else {}
        return tuple(
            LinkReading(
                number=number,
                quantities={
                    "nvlink_throughput_bytes_per_second": sum(rates[number]),
                    "nvlink_tx_bytes_per_second": rates[number][0],
                    "nvlink_rx_bytes_per_second": rates[number][1],
                }
                if number in rates
                else {},
            )
            for number in active
        )

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
