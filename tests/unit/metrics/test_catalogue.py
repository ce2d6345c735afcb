# SPDX-License-Identifier: Apache-2.0
"""The catalogue against what is known of dcgm-exporter."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from cdi_gen.metrics.catalogue import GPU, LINK, NEW, OLD, device_labels, fields, keys
from cdi_gen.telemetry import texts
from tests.unit.metrics import snapshots

# The active rows of etc/default-counters.csv of dcgm-exporter 4.8.4.
DEFAULT_4_8 = """
DCGM_FI_DEV_SM_CLOCK gauge MHz
DCGM_FI_DEV_MEM_CLOCK gauge MHz
DCGM_FI_DEV_MEMORY_TEMP gauge celsius
DCGM_FI_DEV_GPU_TEMP gauge celsius
DCGM_FI_DEV_POWER_USAGE gauge watts
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter mJ
DCGM_FI_DEV_PCIE_REPLAY_COUNTER counter count
DCGM_FI_DEV_GPU_UTIL gauge percent
DCGM_FI_DEV_MEM_COPY_UTIL gauge percent
DCGM_FI_DEV_ENC_UTIL gauge percent
DCGM_FI_DEV_DEC_UTIL gauge percent
DCGM_FI_DEV_XID_ERRORS gauge number of an Xid
DCGM_FI_DEV_FB_FREE gauge MiB
DCGM_FI_DEV_FB_USED gauge MiB
DCGM_FI_DEV_FB_RESERVED gauge MiB
DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL gauge 1024000 bytes per second
DCGM_FI_DEV_VGPU_LICENSE_STATUS gauge 0 or 1
DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS counter count
DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS counter count
DCGM_FI_DEV_ROW_REMAP_FAILURE gauge 0 or 1
DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge ratio
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE gauge ratio
DCGM_FI_PROF_DRAM_ACTIVE gauge ratio
DCGM_FI_PROF_PCIE_TX_BYTES gauge bytes per second
DCGM_FI_PROF_PCIE_RX_BYTES gauge bytes per second
"""

# The defaults of 4.9, from the identifiers of DCGM 4.7.
DEFAULT_4_9 = """
DCGM_FI_DEV_SM_CLOCK_HERTZ gauge hertz
DCGM_FI_DEV_MEMORY_CLOCK_HERTZ gauge hertz
DCGM_FI_DEV_MEMORY_TEMP_CELSIUS gauge celsius
DCGM_FI_DEV_GPU_TEMP_CELSIUS gauge celsius
DCGM_FI_DEV_BOARD_POWER_WATTS gauge watts
DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL counter joules
DCGM_FI_DEV_PCIE_REPLAY_TOTAL counter count
DCGM_FI_DEV_GPU_UTIL_RATIO gauge ratio
DCGM_FI_DEV_MEMORY_UTIL_RATIO gauge ratio
DCGM_FI_DEV_ENC_UTIL_RATIO gauge ratio
DCGM_FI_DEV_DEC_UTIL_RATIO gauge ratio
DCGM_FI_DEV_XID_ERROR gauge number of an Xid
DCGM_FI_DEV_FB_FREE_BYTES gauge bytes
DCGM_FI_DEV_FB_USED_BYTES gauge bytes
DCGM_FI_DEV_FB_RESERVED_BYTES gauge bytes
DCGM_FI_DEV_FB_CAPACITY_BYTES gauge bytes
DCGM_FI_DEV_NVLINK_THROUGHPUT_BYTES_PER_SECOND gauge bytes per second
DCGM_FI_DEV_VGPU_LICENSE_STATUS gauge 0 or 1
DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL counter count
DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL counter count
DCGM_FI_DEV_ROW_REMAP_FAILED gauge 0 or 1
DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO gauge ratio
DCGM_FI_PROF_TENSOR_UTIL_RATIO gauge ratio
DCGM_FI_PROF_DRAM_UTIL_RATIO gauge ratio
DCGM_FI_PROF_PCIE_TX_BYTES gauge bytes per second
DCGM_FI_PROF_PCIE_RX_BYTES gauge bytes per second
"""


@pytest.mark.parametrize(("set_name", "table"), [(OLD, DEFAULT_4_8), (NEW, DEFAULT_4_9)])
def test_default_fields_have_names_types_and_units_of_dcgm_exporter(
    set_name: str, table: str
) -> None:
    names = [field.names[set_name] for field in fields() if set_name in field.default]
    rows = {f"{name.name} {name.type} {name.unit}" for name in names}
    assert rows == set(table.strip().splitlines())


def test_release_4_9_renames_23_default_fields_and_changes_11_units() -> None:
    """The numbers are those of the release notes of 4.9.0."""
    pairs = [field.names for field in fields() if {OLD, NEW} <= field.default]
    assert sum(names[OLD].name != names[NEW].name for names in pairs) == 22
    assert sum(names[OLD].unit != names[NEW].unit for names in pairs) == 11


def test_name_occurs_once_in_a_set() -> None:
    for set_name in (OLD, NEW):
        names = Counter(field.names[set_name].name for field in fields() if set_name in field.names)
        assert {name for name, number in names.items() if number > 1} == set()


def test_names_are_valid_in_prometheus() -> None:
    for field in fields():
        for name in field.of_link(17).names.values():
            assert re.fullmatch(r"DCGM_(FI_DEV|FI_PROF|FI_SYSTEM|EXP)_[A-Z0-9_]+", name.name)
            assert name.type in {"gauge", "counter"}


def test_field_of_both_sets_with_one_name_has_one_unit() -> None:
    """``--names both`` shows such a field once."""
    for field in fields():
        old, new = field.names.get(OLD), field.names.get(NEW)
        if old and new and old.name == new.name:
            assert old._replace(type="") == new._replace(type="")


@pytest.mark.parametrize(
    ("key", "quantity", "old", "new"),
    [
        ("sm_clock_hertz", 1_980_000_000, 1980, 1_980_000_000),
        ("gpu_util_ratio", 0.57, 57, 0.57),
        ("gpu_util_ratio", 0.29, 29, 0.29),
        ("gpu_energy_joules_total", 123_456_789.012, 123_456_789_012, 123_456_789),
        ("board_power_watts", 71.254, 71.254, 71.254),
        ("fb_free_bytes", 80_995 * 2**20 + 524_288, 80_995, 80_995 * 2**20 + 524_288),
        ("nvlink_throughput_bytes_per_second", 3_072_000, 3, 3_072_000),
        ("gpu_power_throttle_seconds_total", 1.5, 1_500_000_000, 1.5),
    ],
)
def test_quantity_in_both_units(key: str, quantity: float, old: float, new: float) -> None:
    names = next(field.names for field in fields() if field.key == key)
    assert (names[OLD].value(quantity), names[NEW].value(quantity)) == (old, new)


def test_snapshots_have_only_keys_of_the_catalogue() -> None:
    for snapshot in (snapshots.idle(), snapshots.eight(), snapshots.mig(), snapshots.faults()):
        for gpu in snapshot.reading.gpus:
            assert gpu.quantities.keys() <= keys(GPU)
            assert all(link.quantities.keys() <= keys(LINK) for link in gpu.links)
            assert all(device.quantities.keys() <= keys(GPU) for device in gpu.mig)


def test_idle_gpu_has_every_default_quantity() -> None:
    defaults = {field.key for field in fields() if field.default}
    assert snapshots.IDLE.keys() == defaults


def test_telemetry_reads_each_text_that_can_be_a_label() -> None:
    read = {*texts._FUNCTIONS, *texts._INFOROM_OBJECTS}
    assert {label.key for label in device_labels()} == read | {"driver_version"}
