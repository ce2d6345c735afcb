# SPDX-License-Identifier: Apache-2.0
"""Reads what NVML tells of a GPU by the numbers of fields: many values with one call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from ctypes import Array
from typing import NamedTuple

from cdi_gen.telemetry import groups
from cdi_gen.telemetry.device import LASTING, Device
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.library import SUCCESS
from cdi_gen.telemetry.structures import FieldValue

Request = tuple[int, int]
"""The number of a field and its scope: 0, the number of a link, or `ALL_LINKS`."""

ALL_LINKS = 0xFFFFFFFF
"""The scope of a field of links that asks for the sum."""

_MOST_BUFFERS = 16
"""One for each combination of fields; links come and go."""

_NANO, _MILLI = 1e9, 1e3

_TYPES = ("real", "small", "large", "large", "signed", "integer", "short")
"""The member of the value, by nvmlValueType_t."""


class Field(NamedTuple):
    """The number of a field, and what makes its value a base unit."""

    number: int
    divisor: float = 1
    unknown: float | None = None
    """The value with which NVML says that it does not know."""


FIELDS: Mapping[str, Mapping[str, Field]] = {
    # 0: a memory without a thermometer, as of GeForce GPUs.
    groups.TEMPERATURE: {"memory_temp_celsius": Field(82, unknown=0)},
    groups.POWER: {"board_power_raw_watts": Field(186, _MILLI)},
    groups.NVLINK: {
        "nvlink_crc_flit_error_total": Field(38),
        "nvlink_crc_data_error_total": Field(45),
        "nvlink_replay_error_total": Field(52),
        "nvlink_recovery_error_total": Field(59),
    },
    groups.ERRORS: {
        "ecc_sbe_vol_total": Field(3),
        "ecc_dbe_vol_total": Field(4),
        "ecc_sbe_agg_total": Field(5),
        "ecc_dbe_agg_total": Field(6),
        "page_retired_sbe_total": Field(29),
        "page_retired_dbe_total": Field(30),
        "page_retired_pending": Field(31),
        "row_remap_correctable_total": Field(142),
        "row_remap_uncorrectable_total": Field(143),
        "row_remap_pending": Field(144),
        "row_remap_failed": Field(145),
    },
}
"""By group and key."""

FIELDS_SELDOM: Mapping[str, Mapping[str, Field]] = {
    groups.THROTTLING: {
        "gpu_power_throttle_seconds_total": Field(74, _NANO),
        "gpu_thermal_throttle_seconds_total": Field(75, _NANO),
        "gpu_sync_boost_throttle_seconds_total": Field(76, _NANO),
        "gpu_board_limit_throttle_seconds_total": Field(77, _NANO),
        "gpu_low_util_throttle_seconds_total": Field(78, _NANO),
        "gpu_reliability_throttle_seconds_total": Field(79, _NANO),
        "gpu_app_clocks_throttle_seconds_total": Field(80, _NANO),
        "gpu_base_clocks_throttle_seconds_total": Field(81, _NANO),
    },
}
"""Those that take long, 1 to 5 ms for field 75 of an H200."""


class FieldReader:
    """Reads the fields of one GPU. One that is not supported is not asked again before `forget`."""

    def __init__(self, device: Device, wanted: Groups) -> None:
        self._device = device
        self._each_pass = _of_groups(FIELDS, wanted)
        self._seldom = _of_groups(FIELDS_SELDOM, wanted)
        self._unsupported: set[Request] = set()
        self._buffers: dict[tuple[Request, ...], Array[FieldValue]] = {}

    def forget(self) -> None:
        """Ask again what was not supported."""
        self._unsupported.clear()

    def read(self) -> dict[str, float]:
        """Return the quantities of the wanted groups of `FIELDS`.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        return self._quantities(self._each_pass)

    def read_seldom(self) -> dict[str, float]:
        """Return the quantities of the wanted groups of `FIELDS_SELDOM`.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        return self._quantities(self._seldom)

    def _quantities(self, fields: Mapping[str, Field]) -> dict[str, float]:
        values = self.values((field.number, 0) for field in fields.values())
        return {
            key: values[field.number, 0] / field.divisor
            for key, field in fields.items()
            if values.get((field.number, 0), field.unknown) != field.unknown
        }

    def values(self, requests: Iterable[Request]) -> dict[Request, float]:
        """Return the values of fields, without those that the GPU does not tell.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        asked = tuple(request for request in requests if request not in self._unsupported)
        if not asked:
            return {}
        buffer = self._buffers.get(asked)
        if buffer is None:
            if len(self._buffers) == _MOST_BUFFERS:
                self._buffers.clear()
            buffer = self._buffers[asked] = (FieldValue * len(asked))(
                *(FieldValue(field=number, scope=scope) for number, scope in asked)
            )
        if not self._device.ask("nvmlDeviceGetFieldValues", len(asked), buffer, key=asked):
            return {}
        values = {}
        for request, answer in zip(asked, buffer, strict=True):
            if answer.code == SUCCESS and answer.type < len(_TYPES):
                value = float(getattr(answer.value, _TYPES[answer.type]))
                if math.isfinite(value):
                    values[request] = value
            elif answer.code in LASTING:
                self._unsupported.add(request)
        return values


def _of_groups(table: Mapping[str, Mapping[str, Field]], wanted: Groups) -> dict[str, Field]:
    """Return the fields of the wanted groups, by key."""
    return {key: field for group in table if group in wanted for key, field in table[group].items()}
