# SPDX-License-Identifier: Apache-2.0
"""Reads what goes through PCIe, of GPUs that do not tell it by GPM."""

from __future__ import annotations

import time
from ctypes import byref, c_uint

from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.fields import FieldReader

_KEYS = ("pcie_tx_bytes_per_second", "pcie_rx_bytes_per_second")
_FIELDS = ((197, 0), (198, 0))
"""Counters of sent and received bytes, from driver 530 on."""
_KB = 1000


class PcieReader:
    """Reads the throughput of one GPU."""

    def __init__(self, device: Device, fields: FieldReader) -> None:
        self._device = device
        self._fields = fields
        self._last: tuple[float, ...] = ()
        self._last_time = 0.0

    def read(self) -> dict[str, float]:
        """Return sent and received bytes per second since the last pass.

        A GPU without the counters measures for 20 ms, twice.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        values = self._fields.values(_FIELDS)
        if len(values) != len(_FIELDS):
            return self._sampled()
        now = time.monotonic()
        counters = tuple(values[field] for field in _FIELDS)
        seconds, last = now - self._last_time, self._last
        self._last, self._last_time = counters, now
        if not last or any(new < old for new, old in zip(counters, last, strict=True)):
            return {}
        rates = ((new - old) / seconds for new, old in zip(counters, last, strict=True))
        return dict(zip(_KEYS, rates, strict=True))

    def _sampled(self) -> dict[str, float]:
        quantities = {}
        throughput = c_uint()
        for direction, key in enumerate(_KEYS):
            if self._device.ask(
                "nvmlDeviceGetPcieThroughput", direction, byref(throughput), key=direction
            ):
                quantities[key] = float(throughput.value * _KB)
        return quantities
