# SPDX-License-Identifier: Apache-2.0
"""Files that choose fields, in dcgm-exporter's format."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_gen.errors import UsageError
from cdi_gen.metrics.catalogue import Selection
from cdi_gen.metrics.exposition import render
from cdi_gen.metrics.families import Options, families
from cdi_gen.metrics.fields_file import MAX_BYTES, parse_fields_file
from cdi_gen.metrics.snapshot import Snapshot
from tests.unit.metrics import snapshots
from tests.unit.metrics.parsing import Parsed, presented

# As etc/default-counters.csv writes: a comment of three cells, blanks before and after a comma.
DEFAULT = """\
# Format,,
# If line starts with a '#' it is considered a comment

# Clocks,,
DCGM_FI_DEV_SM_CLOCK,  gauge, SM clock frequency (in MHz).
DCGM_FI_DEV_DEC_UTIL ,     gauge, Decoder utilization (in %).
DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL,            counter, "NVLink bandwidth, all lanes"
# DCGM_FI_DEV_ECC_SBE_VOL_TOTAL, counter, Total number of single-bit volatile ECC errors.

DCGM_FI_DRIVER_VERSION,        label, Driver Version
"""


def selection(text: str) -> Selection:
    return parse_fields_file(text.encode(), "/etc/fields.csv").selection


def shown(text: str) -> Parsed:
    return presented(snapshots.idle(), Options(selection=selection(text), hostname="n"))


def dcgm_names(parsed: Parsed) -> set[str]:
    return {sample.name for sample in parsed.samples if sample.name.startswith("DCGM")}


def test_file_chooses_fields_types_and_help() -> None:
    parsed = shown(DEFAULT)
    assert dcgm_names(parsed) == {
        "DCGM_FI_DEV_SM_CLOCK",
        "DCGM_FI_DEV_DEC_UTIL",
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
    }
    assert parsed.types["DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"] == "counter"
    (labels,) = parsed.labels("DCGM_FI_DEV_SM_CLOCK")
    assert labels["DCGM_FI_DRIVER_VERSION"] == "580.95.05"
    made = families(snapshots.idle(), Options(selection=selection(DEFAULT)))
    assert b"# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).\n" in render(made)


# The fields of etc/*.csv from release 2.4 to 4.8.4, active or in comments.
RELEASES = [
    "DCGM_EXP_CLOCK_EVENTS_COUNT",
    "DCGM_EXP_CLOCK_EVENTS_TOTAL",
    "DCGM_EXP_XID_ERRORS_COUNT",
    "DCGM_EXP_XID_ERRORS_TOTAL",
    "DCGM_FI_DEV_BOARD_LIMIT_VIOLATION",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_DEC_UTIL",
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL",
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
    "DCGM_FI_DEV_ENC_UTIL",
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
    "DCGM_FI_DEV_FABRIC_HEALTH_MASK",
    "DCGM_FI_DEV_FABRIC_HEALTH_SUMMARY",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_RESERVED",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_LOW_UTIL_VIOLATION",
    "DCGM_FI_DEV_MEMORY_TEMP",
    "DCGM_FI_DEV_MEM_CLOCK",
    "DCGM_FI_DEV_MEM_COPY_UTIL",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_L0",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
    "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL",
    "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
    "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
    "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_PCIE_RX_THROUGHPUT",
    "DCGM_FI_DEV_PCIE_TX_THROUGHPUT",
    "DCGM_FI_DEV_POWER_MGMT_LIMIT",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_POWER_VIOLATION",
    "DCGM_FI_DEV_RELIABILITY_VIOLATION",
    "DCGM_FI_DEV_RETIRED_DBE",
    "DCGM_FI_DEV_RETIRED_PENDING",
    "DCGM_FI_DEV_RETIRED_SBE",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_SYNC_BOOST_VIOLATION",
    "DCGM_FI_DEV_THERMAL_VIOLATION",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_PROF_DRAM_ACTIVE",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_PCIE_RX_BYTES",
    "DCGM_FI_PROF_PCIE_TX_BYTES",
    "DCGM_FI_PROF_PIPE_FP16_ACTIVE",
    "DCGM_FI_PROF_PIPE_FP32_ACTIVE",
    "DCGM_FI_PROF_PIPE_FP64_ACTIVE",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_SM_ACTIVE",
    "DCGM_FI_PROF_SM_OCCUPANCY",
]
RELEASES_LABELS = [
    "DCGM_FI_DRIVER_VERSION",
    "DCGM_FI_DEV_SERIAL",
    "DCGM_FI_DEV_OEM_INFOROM_VER",
    "DCGM_FI_DEV_ECC_INFOROM_VER",
    "DCGM_FI_DEV_POWER_INFOROM_VER",
    "DCGM_FI_DEV_INFOROM_IMAGE_VER",
    "DCGM_FI_DEV_VBIOS_VERSION",
]
NOT_GIVEN = {
    "DCGM_FI_DEV_NVLINK_CRC_ERROR_TOTAL": "counter",
    "DCGM_FI_DEV_NVLINK_RECOVERY_TOTAL": "counter",
    "DCGM_FI_DEV_NVLINK_REPLAY_TOTAL": "counter",
    "DCGM_EXP_GPU_HEALTH_STATUS": "gauge",
    "DCGM_EXP_P2P_STATUS": "gauge",
    "DCGM_FI_DEV_BRAND": "label",
    "DCGM_FI_NVML_VERSION": "label",
}


def test_every_field_of_the_files_of_releases() -> None:
    lines = [f"{name}, gauge, x" for name in RELEASES]
    lines += [f"{name}, label, x" for name in RELEASES_LABELS]
    lines += [f"{name}, {type_}, x" for name, type_ in NOT_GIVEN.items()]
    file = parse_fields_file("\n".join(lines).encode(), "f.csv")
    assert [field.name.name for field in file.selection.fields] == RELEASES
    assert {label.name for label in file.selection.labels} == set(RELEASES_LABELS)
    assert len(file.findings) == len(NOT_GIVEN)
    assert not [finding for finding in file.findings if "does not know" in finding.message]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DCGM_FI_DEV_NVLINK_BANDWIDTH_L1", 2),
        ("DCGM_FI_DEV_NVLINK_THROUGHPUT_L1_BYTES_PER_SECOND", 2_048_000),
    ],
)
def test_field_of_one_nvlink(name: str, value: float) -> None:
    chosen = selection(f"{name},gauge,x")
    parsed = presented(snapshots.eight(), Options(selection=chosen))
    assert parsed.value(name, gpu="3", pod="train-2") == value
    assert len(parsed.values(name)) == 8


def test_label_that_the_file_does_not_name_is_absent() -> None:
    (labels,) = shown("DCGM_FI_DEV_SM_CLOCK,gauge,x").labels("DCGM_FI_DEV_SM_CLOCK")
    assert "DCGM_FI_DRIVER_VERSION" not in labels


def test_label_of_a_text_of_the_gpu() -> None:
    gpu = snapshots.gpu(0, texts={"serial": "1650223"})
    chosen = selection("DCGM_FI_DEV_SM_CLOCK,gauge,x\nDCGM_FI_DEV_SERIAL,label,x")
    snapshot = Snapshot(reading=snapshots.reading(gpu))
    (labels,) = presented(snapshot, Options(selection=chosen)).labels("DCGM_FI_DEV_SM_CLOCK")
    assert labels["DCGM_FI_DEV_SERIAL"] == "1650223"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("DCGM_FI_DEV_SM_CLOCK,gauge,x\nDCGM_FI_PROF_PCIE_TX_BYTES,gauge,x", "Hostname"),
        ("DCGM_FI_DEV_SM_CLOCK_HERTZ,gauge,x\nDCGM_FI_PROF_PCIE_TX_BYTES,gauge,x", "hostname"),
    ],
    ids=["old", "new"],
)
def test_name_of_both_sets_has_the_labels_of_the_others(text: str, label: str) -> None:
    (labels,) = shown(text).labels("DCGM_FI_PROF_PCIE_TX_BYTES")
    assert labels[label] == "n"


def test_both_sets_in_one_file() -> None:
    text = "DCGM_FI_DEV_SM_CLOCK,gauge,x\nDCGM_FI_DEV_SM_CLOCK_HERTZ,gauge,x"
    parsed = shown(text)
    assert parsed.value("DCGM_FI_DEV_SM_CLOCK", Hostname="n") == 345
    assert parsed.value("DCGM_FI_DEV_SM_CLOCK_HERTZ", hostname="n") == 345e6


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("DCGM_EXP_P2P_STATUS,gauge,x", "as DCGM judges it"),
        ("DCGM_FI_DEV_CUDA_COMPUTE_CAPABILITY,label,x", "cannot make this field a label"),
        ("DCGM_FI_DEV_BRAND,label,x", "`modelName` says more"),
        ("DCGM_FI_DEV_CPU_UTIL_TOTAL,gauge,x", "node_exporter measures them"),
        ("DCGM_FI_PROF_SM_CYCLES_ACTIVE_TOTAL,counter,x", "no numbers of cycles"),
        ("DCGM_FI_DEV_NVLINK_BANDWIDTH_L18,gauge,x", "NVML does not give this field"),
        ("DCGM_FI_DEV_NVLINK_BANDWIDTH_L{link},gauge,x", "NVML does not give this field"),
        ("dcgm_gpu_temp,gauge,x", "NVML does not give this field"),
        ("DCGM_FI_DRIVER_VERSION,gauge,x", "NVML does not give this field"),
        ("\x1b[2J,gauge,x", r"\x1b[2J is skipped"),
        ("DCGM_FI_DEV_SM_CLOCK,counter,y", "DCGM_FI_DEV_SM_CLOCK is skipped: it is in line 1 too"),
    ],
)
def test_unknown_field_is_skipped_with_a_warning(row: str, reason: str) -> None:
    file = parse_fields_file(f"DCGM_FI_DEV_SM_CLOCK,gauge,x\n{row}\n".encode(), "f.csv")
    (finding,) = file.findings
    assert (finding.code, finding.severity) == ("CDG-O051", "warning")
    assert finding.message.startswith("f.csv, line 2: ")
    assert reason in finding.message
    assert [field.name.name for field in file.selection.fields] == ["DCGM_FI_DEV_SM_CLOCK"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "f.csv chooses no field that NVML gives"),
        (b"# only a comment\n", "f.csv chooses no field that NVML gives"),
        (b"DCGM_FI_DRIVER_VERSION,label,x", "f.csv chooses no field that NVML gives"),
        (b"\nDCGM_FI_DEV_GPU_TEMP,gauge", "f.csv, line 2 has 2 values instead of 3"),
        (b"DCGM_FI_DEV_GPU_TEMP,gauge,a,b", "f.csv, line 1 has 4 values instead of 3"),
        (b"DCGM_FI_DEV_GPU_TEMP,histogram,x", "f.csv, line 1: the type is 'histogram' instead of"),
        (b"DCGM_FI_DEV_GPU_TEMP,\x1b[2J,x", r"f.csv, line 1: the type is '\\x1b[2J' instead of"),
        (b'DCGM_FI_DEV_GPU_TEMP,gauge,"x', "f.csv, line 1: unexpected end of data"),
        (b"\xff\xfe", "f.csv is not UTF-8"),
        (b"a" * (MAX_BYTES + 1), "f.csv is larger than 1 MiB"),
        (b"x," * 200_000, "f.csv, line 1 has 200001 values instead of 3"),
    ],
    ids=lambda value: value[:12].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_malformed_file_is_rejected(content: bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fields_file(content, "f.csv")
    assert caught.value.message.startswith(message)
    assert caught.value.code == "CDG-O050"


def test_byte_order_mark_and_carriage_returns() -> None:
    text = "\ufeffDCGM_FI_DEV_SM_CLOCK,gauge,x\r\nDCGM_FI_DEV_GPU_TEMP,gauge,x\r\n"
    assert [field.help for field in selection(text).fields] == ["x", "x"]


def test_hostile_help_is_one_line() -> None:
    text = 'DCGM_FI_DEV_SM_CLOCK,gauge,"a\x0b\\n\x1b[2J\u202e"""'
    parsed = shown(text)
    assert dcgm_names(parsed) == {"DCGM_FI_DEV_SM_CLOCK"}


@given(st.binary(max_size=300) | st.text(st.sampled_from('DCGM_FI,gaue"\n\r #\0é')).map(str.encode))
def test_any_bytes_end(content: bytes) -> None:
    with contextlib.suppress(UsageError):
        parse_fields_file(content, "f.csv")
