# SPDX-License-Identifier: Apache-2.0
"""NVML's structures are those of its header, of which pynvml has a copy."""

from __future__ import annotations

from ctypes import Structure, sizeof

import pynvml
import pytest

from cdi_gen.telemetry import structures
from cdi_gen.telemetry.fields import FIELDS, FIELDS_SELDOM
from cdi_gen.telemetry.profiling import METRICS_OF_GPU

NAMES = {
    "PciInfo": "nvmlPciInfo_t",
    "Utilization": "c_nvmlUtilization_t",
    "Memory": "c_nvmlMemory_t",
    "MemoryV2": "c_nvmlMemory_v2_t",
    "ProcessInfo": "c_nvmlProcessInfo_v3_t",
    "ProcessDetail": "c_nvmlProcessDetail_v1_t",
    "ProcessSample": "c_nvmlProcessUtilizationSample_t",
    "FieldValue": "c_nvmlFieldValue_t",
    "EventData": "c_nvmlEventData_t",
    "GpmSupport": "c_nvmlGpmSupport_t",
    "Temperature": "c_nvmlTemperature_v1_t",
    "MarginTemperature": "c_nvmlMarginTemperature_v1_t",
    "RowRemapperHistogram": "c_nvmlRowRemapperHistogramValues",
    "FabricInfo": "c_nvmlGpuFabricInfo_t",
    "FabricInfoV2": "c_nvmlGpuFabricInfo_v2_t",
    "FabricInfoV3": "c_nvmlGpuFabricInfo_v3_t",
    "LicenseExpiry": "c_nvmlGridLicenseExpiry_t",
    "LicensableFeature": "c_nvmlGridLicensableFeature_v4_t",
    "LicensableFeatures": "c_nvmlGridLicensableFeatures_v4_t",
}


def layout(structure: type[Structure]) -> list[tuple[int, int]]:
    return [
        (getattr(structure, name).offset, getattr(structure, name).size)
        for name, *_ in structure._fields_
    ]


@pytest.mark.parametrize(("name", "name_of_pynvml"), NAMES.items())
def test_structures_are_those_of_nvml(name: str, name_of_pynvml: str) -> None:
    ours, theirs = getattr(structures, name), getattr(pynvml, name_of_pynvml)
    assert layout(ours) == layout(theirs)
    assert sizeof(ours) == sizeof(theirs)


def test_the_structure_of_a_metric_is_that_of_nvml() -> None:
    """It has a structure for its names, which here are its own members."""
    ours, theirs = structures.GpmMetric, pynvml.c_nvmlGpmMetric_t
    assert layout(ours)[:3] == layout(theirs)[:3]
    assert sizeof(ours) == sizeof(theirs)


def test_the_structure_of_sram_errors_is_that_of_nvml() -> None:
    """The counts are an array here."""
    ours, theirs = structures.SramStatus, pynvml.c_nvmlEccSramErrorStatus_v1_t
    assert ours.threshold_exceeded.offset == theirs.bThresholdExceeded.offset
    assert sizeof(ours) == sizeof(theirs)


def test_versions_and_constants_are_those_of_nvml() -> None:
    assert pynvml.nvmlMemory_v2 == structures.MEMORY_V2
    assert pynvml.nvmlGpuFabricInfo_v2 == structures.FABRIC_V2
    assert pynvml.nvmlGpuFabricInfo_v3 == structures.FABRIC_V3
    assert pynvml.nvmlTemperature_v1 == structures.TEMPERATURE_V1
    assert pynvml.nvmlMarginTemperature_v1 == structures.MARGIN_TEMPERATURE_V1
    assert pynvml.nvmlEccSramErrorStatus_v1 == structures.SRAM_STATUS_V1
    assert pynvml.NVML_GPM_METRICS_GET_VERSION == structures.GPM_VERSION
    assert pynvml.nvmlEventTypeXidCriticalError == structures.EVENT_XID
    assert pynvml.nvmlEventTypeClock == structures.EVENT_CLOCK
    assert (
        pynvml.NVML_CLOCK_SM,
        pynvml.NVML_CLOCK_MEM,
        pynvml.NVML_CLOCK_VIDEO,
    ) == (structures.CLOCK_SM, structures.CLOCK_MEMORY, structures.CLOCK_VIDEO)


FIELD_NAMES = {
    "memory_temp_celsius": "MEMORY_TEMP",
    "board_power_raw_watts": "POWER_INSTANT",
    "nvlink_crc_flit_error_total": "NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
    "nvlink_crc_data_error_total": "NVLINK_CRC_DATA_ERROR_COUNT_TOTAL",
    "nvlink_replay_error_total": "NVLINK_REPLAY_ERROR_COUNT_TOTAL",
    "nvlink_recovery_error_total": "NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
    "ecc_sbe_vol_total": "ECC_SBE_VOL_TOTAL",
    "ecc_dbe_vol_total": "ECC_DBE_VOL_TOTAL",
    "ecc_sbe_agg_total": "ECC_SBE_AGG_TOTAL",
    "ecc_dbe_agg_total": "ECC_DBE_AGG_TOTAL",
    "page_retired_sbe_total": "RETIRED_SBE",
    "page_retired_dbe_total": "RETIRED_DBE",
    "page_retired_pending": "RETIRED_PENDING",
    "row_remap_correctable_total": "REMAPPED_COR",
    "row_remap_uncorrectable_total": "REMAPPED_UNC",
    "row_remap_pending": "REMAPPED_PENDING",
    "row_remap_failed": "REMAPPED_FAILURE",
    "gpu_power_throttle_seconds_total": "PERF_POLICY_POWER",
    "gpu_thermal_throttle_seconds_total": "PERF_POLICY_THERMAL",
    "gpu_sync_boost_throttle_seconds_total": "PERF_POLICY_SYNC_BOOST",
    "gpu_board_limit_throttle_seconds_total": "PERF_POLICY_BOARD_LIMIT",
    "gpu_low_util_throttle_seconds_total": "PERF_POLICY_LOW_UTILIZATION",
    "gpu_reliability_throttle_seconds_total": "PERF_POLICY_RELIABILITY",
    "gpu_app_clocks_throttle_seconds_total": "PERF_POLICY_TOTAL_APP_CLOCKS",
    "gpu_base_clocks_throttle_seconds_total": "PERF_POLICY_TOTAL_BASE_CLOCKS",
}


def test_numbers_of_fields_are_those_of_nvml() -> None:
    tables = (*FIELDS.values(), *FIELDS_SELDOM.values())
    numbers = {key: field.number for fields in tables for key, field in fields.items()}
    assert numbers == {
        key: getattr(pynvml, f"NVML_FI_DEV_{name}") for key, name in FIELD_NAMES.items()
    }


METRICS = {
    "gr_engine_util_ratio": "GRAPHICS_UTIL",
    "sm_util_ratio": "SM_UTIL",
    "sm_occupancy_ratio": "SM_OCCUPANCY",
    "int_util_ratio": "INTEGER_UTIL",
    "tensor_util_ratio": "ANY_TENSOR_UTIL",
    "dfma_util_ratio": "DFMA_TENSOR_UTIL",
    "hmma_util_ratio": "HMMA_TENSOR_UTIL",
    "imma_util_ratio": "IMMA_TENSOR_UTIL",
    "dram_util_ratio": "DRAM_BW_UTIL",
    "fp64_util_ratio": "FP64_UTIL",
    "fp32_util_ratio": "FP32_UTIL",
    "fp16_util_ratio": "FP16_UTIL",
    "pcie_tx_bytes_per_second": "PCIE_TX_PER_SEC",
    "pcie_rx_bytes_per_second": "PCIE_RX_PER_SEC",
    "nvlink_rx_bytes_per_second": "NVLINK_TOTAL_RX_PER_SEC",
    "nvlink_tx_bytes_per_second": "NVLINK_TOTAL_TX_PER_SEC",
}


def test_numbers_of_metrics_are_those_of_nvml() -> None:
    assert {key: number for key, (number, _) in METRICS_OF_GPU.items()} == {
        key: getattr(pynvml, f"NVML_GPM_METRIC_{name}") for key, name in METRICS.items()
    }
