# SPDX-License-Identifier: Apache-2.0
"""Reads modes and states of a GPU, which change seldom."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_uint

from cdi_gen.telemetry import groups
from cdi_gen.telemetry.device import Device
from cdi_gen.telemetry.groups import Groups
from cdi_gen.telemetry.structures import (
    FABRIC_V2,
    FABRIC_V3,
    SRAM_STATUS_V1,
    FabricInfo,
    FabricInfoV2,
    FabricInfoV3,
    LicensableFeatures,
    RowRemapperHistogram,
    SramStatus,
)

Quantities = dict[str, float]

_COMPLETED, _FAILED = 3, 4
"""States of the Fabric Manager as DCGM numbers them: what NVML calls completed may have failed."""


def _power_limits(device: Device) -> Quantities:
    least, most = c_uint(), c_uint()
    if not device.ask("nvmlDeviceGetPowerManagementLimitConstraints", byref(least), byref(most)):
        return {}
    return {
        "board_power_limit_min_watts": least.value / 1000,
        "board_power_limit_max_watts": most.value / 1000,
    }


def _remappable_banks(device: Device) -> Quantities:
    banks = RowRemapperHistogram()
    if not device.ask("nvmlDeviceGetRowRemapperHistogram", byref(banks)):
        return {}
    return {
        "bank_remap_avail_max": banks.max,
        "bank_remap_avail_high": banks.high,
        "bank_remap_avail_partial": banks.partial,
        "bank_remap_avail_low": banks.low,
        "bank_remap_avail_none": banks.none,
    }


def _sram(device: Device) -> Quantities:
    status = SramStatus(version=SRAM_STATUS_V1)
    if not device.ask("nvmlDeviceGetSramEccErrorStatus", byref(status)):
        return {}
    return {"sram_exceeded": int(status.threshold_exceeded != 0)}


def _license(device: Device) -> Quantities:
    """Return 1 if a feature of a virtual GPU is licensed; 0 on other GPUs too, as DCGM has it."""
    features = LicensableFeatures()
    if not device.ask("nvmlDeviceGetGridLicensableFeatures_v4", byref(features)):
        return {}
    count = min(features.count, len(features.features)) if features.is_supported else 0
    return {"vgpu_license_status": int(any(f.state for f in features.features[:count]))}


def _ecc(device: Device) -> Quantities:
    current, pending = c_uint(), c_uint()
    if not device.ask("nvmlDeviceGetEccMode", byref(current), byref(pending)):
        return {}
    return {"ecc_mode": current.value, "ecc_pending": pending.value}


def _fabric(device: Device) -> Quantities:
    for version, structure in ((FABRIC_V3, FabricInfoV3), (FABRIC_V2, FabricInfoV2)):
        info = structure(version=version)
        if device.ask("nvmlDeviceGetGpuFabricInfoV", byref(info), key=version):
            quantities: Quantities = {
                "fabric_manager_status": _fabric_status(info),
                "fabric_health_mask": info.health_mask,
            }
            if isinstance(info, FabricInfoV3):
                quantities["fabric_health_summary"] = info.health_summary
            return quantities
    old = FabricInfo()
    if device.ask("nvmlDeviceGetGpuFabricInfo", byref(old)):
        return {"fabric_manager_status": _fabric_status(old)}
    return {}


def _fabric_status(info: FabricInfo | FabricInfoV2 | FabricInfoV3) -> int:
    return _FAILED if info.state == _COMPLETED and info.status else int(info.state)


_READERS: dict[str, tuple[Callable[[Device], Quantities], ...]] = {
    groups.POWER: (_power_limits,),
    groups.ERRORS: (_remappable_banks, _sram),
    groups.MEMORY: (_license,),
    groups.STATE: (_ecc, _fabric),
}


def read(device: Device, wanted: Groups) -> Quantities:
    """Return what the device tells of the wanted groups.

    Raises:
        GpuFault: the GPU cannot be measured.
    """
    quantities: Quantities = {}
    for group, readers in _READERS.items():
        if group in wanted:
            for reader in readers:
                quantities |= reader(device)
    return quantities
