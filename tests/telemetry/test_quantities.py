# SPDX-License-Identifier: Apache-2.0
"""Every quantity of a GPU, a MIG device and an NVLink, and the catalogue of metrics."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import cdi_specs
from cdi_gen.telemetry import GpuReading, Telemetry
from cdi_gen.telemetry.clock_events import REASONS
from cdi_gen.telemetry.fields import ALL_LINKS
from cdi_gen.telemetry.groups import ALL
from tests.fakehost.gpus import A100, H100, gpu, split
from tests.fakehost.nvml_values import CLOCK_REASONS
from tests.telemetry.fixtures import MakeNvml
from tests.telemetry.mocked import Mocked

MIB = 1 << 20

OF_GPU = {
    "sm_clock_hertz": 1_755_000_000,
    "memory_clock_hertz": 2_619_000_000,
    "video_clock_hertz": 1_545_000_000,
    "sm_app_clock_hertz": 1_830_000_000,
    "memory_app_clock_hertz": 2_619_000_000,
    "sm_max_clock_hertz": 1_980_000_000,
    "memory_max_clock_hertz": 2_619_000_000,
    "video_max_clock_hertz": 1_980_000_000,
    "clocks_event_reasons": 0x24,
    "memory_temp_celsius": 72,
    "gpu_temp_celsius": 61,
    "memory_max_op_temp_celsius": 95,
    "gpu_max_op_temp_celsius": 87,
    "gpu_temp_slowdown_celsius": 89,
    "gpu_temp_shutdown_celsius": 92,
    "gpu_temp_margin_celsius": 26,
    "fan_speed_ratio": 0.35,
    "board_power_watts": 412.345,
    "gpu_energy_joules_total": 8_123_456.789,
    "board_power_raw_watts": 415,
    "board_power_limit_requested_watts": 700,
    "board_power_limit_enforced_watts": 650,
    "board_power_limit_default_watts": 690,
    "board_power_limit_min_watts": 200,
    "board_power_limit_max_watts": 710,
    "pcie_tx_bytes_per_second": 1500 * MIB,
    "pcie_rx_bytes_per_second": 2500 * MIB,
    "pcie_replay_total": 3,
    "pcie_link_gen": 5,
    "pcie_link_width": 16,
    "pcie_max_link_gen": 6,
    "pcie_max_link_width": 8,
    "gpu_util_ratio": 0.87,
    "memory_util_ratio": 0.43,
    "enc_util_ratio": 0.12,
    "dec_util_ratio": 0.07,
    "xid_error": 0,
    "fb_capacity_bytes": 81_559 * MIB,
    "fb_used_bytes": 20_000 * MIB,
    "fb_reserved_bytes": 576 * MIB,
    "fb_free_bytes": 60_983 * MIB,
    "fb_used_ratio": 20_000 / (81_559 - 576),
    "bar1_capacity_bytes": 131_072 * MIB,
    "bar1_used_bytes": 16 * MIB,
    "bar1_free_bytes": 131_056 * MIB,
    "nvlink_crc_flit_error_total": 6,
    "nvlink_crc_data_error_total": 7,
    "nvlink_replay_error_total": 8,
    "nvlink_recovery_error_total": 9,
    "nvlink_throughput_bytes_per_second": 18 * 3 * 512,
    "nvlink_rx_bytes_per_second": 3000 * MIB,
    "nvlink_tx_bytes_per_second": 4000 * MIB,
    "vgpu_license_status": 0,
    "row_remap_uncorrectable_total": 1,
    "row_remap_correctable_total": 2,
    "row_remap_failed": 0,
    "row_remap_pending": 0,
    "bank_remap_avail_max": 635,
    "bank_remap_avail_high": 3,
    "bank_remap_avail_partial": 2,
    "bank_remap_avail_low": 1,
    "bank_remap_avail_none": 0,
    "page_retired_sbe_total": 5,
    "page_retired_dbe_total": 1,
    "page_retired_pending": 0,
    "ecc_sbe_vol_total": 4,
    "ecc_dbe_vol_total": 1,
    "ecc_sbe_agg_total": 14,
    "ecc_dbe_agg_total": 2,
    "sram_exceeded": 0,
    "gpu_power_throttle_seconds_total": 7,
    "gpu_thermal_throttle_seconds_total": 2,
    "gpu_sync_boost_throttle_seconds_total": 0,
    "gpu_board_limit_throttle_seconds_total": 1,
    "gpu_low_util_throttle_seconds_total": 0,
    "gpu_reliability_throttle_seconds_total": 0,
    "gpu_app_clocks_throttle_seconds_total": 9,
    "gpu_base_clocks_throttle_seconds_total": 4,
    "gr_engine_util_ratio": 0.915,
    "sm_util_ratio": 0.8025,
    "sm_occupancy_ratio": 0.405,
    "int_util_ratio": 0.225,
    "tensor_util_ratio": 0.5575,
    "dfma_util_ratio": 0.005,
    "hmma_util_ratio": 0.455,
    "imma_util_ratio": 0.0975,
    "dram_util_ratio": 0.3325,
    "fp64_util_ratio": 0.015,
    "fp32_util_ratio": 0.125,
    "fp16_util_ratio": 0.0625,
    "gpu_pstate": 0,
    "gpu_compute_mode": 3,
    "gpu_persistence_mode": 1,
    "mig_mode": 0,
    "ecc_mode": 1,
    "ecc_pending": 0,
    "fabric_manager_status": 3,
    "fabric_health_mask": 0x2A,
    "fabric_health_summary": 1,
}

OF_MIG = {
    key: value
    for key, value in OF_GPU.items()
    if key.startswith("fb_")
    or (
        key.endswith("_ratio")
        and key not in {"gpu_util_ratio", "memory_util_ratio", "enc_util_ratio", "dec_util_ratio"}
        and key != "fan_speed_ratio"
    )
} | {"xid_error": 0}

OF_HOST = "gpu_quantity"
"""The number of GPUs, which `cdi_gen.metrics` counts."""

OF_LINK = {
    "nvlink_throughput_bytes_per_second": 3 * 512,
    "nvlink_tx_bytes_per_second": 2 * 512,
    "nvlink_rx_bytes_per_second": 512,
}


def keys_of_catalogue(entity: str, *, mig: bool = False) -> set[str]:
    fields = json.loads(cdi_specs.read_text("metrics.json"))["fields"]
    return {
        field["key"] for field in fields if field["entity"] == entity and (field["mig"] or not mig)
    }


@pytest.fixture
def every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading of counters is 2 s after the one before, for the readers of links and PCIe."""
    # Links are read twice in a pass: all together, and each.
    for module, step in (("nvlink", 1.0), ("pcie", 2.0)):
        ticks: Iterator[float] = itertools.count(100.0, step)
        clock = SimpleNamespace(monotonic=ticks.__next__)
        monkeypatch.setattr(f"cdi_gen.telemetry.{module}.time", clock)


def set_links(mocked: Mocked, sent: int, received: int, *fields: int) -> None:
    """Set the counters of all links, and their sum."""
    for field, value in zip(fields, (sent, received), strict=True):
        each = {f"{field}@{link}" if link else field: value for link in range(18)}
        mocked.values.fields("0", {**each, f"{field}@{ALL_LINKS}": 18 * value})


def read_twice(mocked: Mocked) -> GpuReading:
    """Read all quantities of the first GPU; those of counters need two passes."""
    mocked.values.set("0", fan=35, clock_reasons=0x24)
    set_links(mocked, 10, 20, 138, 139)
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        set_links(mocked, 12, 21, 138, 139)
        reading = telemetry.read()
    assert not reading.error
    return reading.gpus[0]


def test_every_quantity_of_a_gpu(nvml: MakeNvml, every_two_seconds: None) -> None:
    mocked = nvml(gpu(0))
    mocked.describe((gpu(0),), nvlink=True)
    reading = read_twice(mocked)
    assert reading.quantities == pytest.approx(OF_GPU)
    assert len(reading.links) == 18
    assert {link.number for link in reading.links} == {*range(18)}
    assert all(link.quantities == OF_LINK for link in reading.links)


def test_every_quantity_of_a_mig_device(nvml: MakeNvml) -> None:
    mocked = nvml(split(0, H100))
    values = {key: value for key, value in mocked.values.of("0").items() if "gpm_" in key}
    mocked.values.set("0:3", memory_used=100 * MIB, memory_reserved=14 * MIB, **values)
    quantities = read_twice(mocked).mig[3].quantities
    assert quantities == pytest.approx(
        OF_MIG
        | {
            "fb_capacity_bytes": 4864 * MIB,
            "fb_used_bytes": 100 * MIB,
            "fb_reserved_bytes": 14 * MIB,
            "fb_free_bytes": 4750 * MIB,
            "fb_used_ratio": 100 / 4850,
        }
    )


def test_the_catalogue_has_these_keys_and_no_others() -> None:
    assert OF_GPU.keys() == keys_of_catalogue("gpu") - {OF_HOST}
    assert OF_MIG.keys() == keys_of_catalogue("gpu", mig=True)
    assert OF_LINK.keys() == keys_of_catalogue("link")


def test_names_of_clock_events_are_those_of_the_catalogue() -> None:
    assert json.loads(cdi_specs.read_text("metrics.json"))["clock_events"] == REASONS


def test_groups_are_those_of_the_catalogue() -> None:
    fields = json.loads(cdi_specs.read_text("metrics.json"))["fields"]
    assert {field["group"] for field in fields} | {"processes"} == ALL


@pytest.mark.parametrize("group", sorted(ALL - {"events", "links", "processes"}))
def test_a_group_has_the_keys_that_the_catalogue_says(nvml: MakeNvml, group: str) -> None:
    fields = json.loads(cdi_specs.read_text("metrics.json"))["fields"]
    groups: dict[str, set[str]] = {}
    for field in fields:
        if field["entity"] == "gpu":
            groups.setdefault(field["key"], set()).add(field["group"])
    mocked = nvml(gpu(0))
    mocked.describe((gpu(0),), nvlink=True)
    set_links(mocked, 1, 1, 138, 139)
    with Telemetry(str(mocked.library), groups=frozenset({group})) as telemetry:
        telemetry.read()
        quantities = telemetry.read().gpus[0].quantities
    # Counters of links have to rise, fans have to be there; GPM gives PCIe too.
    assert quantities
    assert {key: groups[key] for key in quantities if group not in groups[key]}.keys() <= {
        "pcie_tx_bytes_per_second",
        "pcie_rx_bytes_per_second",
    }


def test_clock_events_of_now(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    bits = CLOCK_REASONS["sw_power_cap"] | CLOCK_REASONS["hw_thermal"]
    mocked.values.set("0", clock_reasons=bits)
    with Telemetry(str(mocked.library)) as telemetry:
        assert telemetry.read().gpus[0].clock_events == {"power_cap", "hw_thermal"}


def test_gpm_needs_two_samples_one_after_the_other(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    with Telemetry(str(mocked.library)) as telemetry:

        def is_told() -> bool:
            return "sm_util_ratio" in telemetry.read().gpus[0].quantities

        assert [is_told(), is_told()] == [False, True]
        mocked.values.set("0", gpm="E999")
        assert not is_told()
        mocked.values.remove("0", "gpm")
        assert [is_told(), is_told()] == [False, True]


def test_gpm_needs_hopper(nvml: MakeNvml) -> None:
    quantities = read_twice(nvml(gpu(0, A100))).quantities
    assert not {"gr_engine_util_ratio", "sm_util_ratio", "tensor_util_ratio"} & quantities.keys()


def test_pcie_before_hopper_is_sampled(nvml: MakeNvml) -> None:
    quantities = read_twice(nvml(gpu(0, A100))).quantities
    assert quantities["pcie_tx_bytes_per_second"] == 1_111_000
    assert quantities["pcie_rx_bytes_per_second"] == 2_222_000


def test_pcie_counters_before_hopper(nvml: MakeNvml, every_two_seconds: None) -> None:
    mocked = nvml(gpu(0, A100))
    with Telemetry(str(mocked.library)) as telemetry:
        mocked.values.fields("0", {197: 1000, 198: 2000})
        assert "pcie_tx_bytes_per_second" not in telemetry.read().gpus[0].quantities
        mocked.values.fields("0", {197: 1100, 198: 2600})
        quantities = telemetry.read().gpus[0].quantities
        mocked.values.fields("0", {197: 5, 198: 5})
        after_reset = telemetry.read().gpus[0].quantities
    assert quantities["pcie_tx_bytes_per_second"] == 50
    assert quantities["pcie_rx_bytes_per_second"] == 300
    assert "pcie_tx_bytes_per_second" not in after_reset


def test_nvlink_5_has_other_counters(nvml: MakeNvml, every_two_seconds: None) -> None:
    mocked = nvml(gpu(0, A100))
    mocked.describe((gpu(0, A100),), nvlink=True)
    set_links(mocked, 1000, 1000, 202, 204)
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        set_links(mocked, 1010, 1030, 202, 204)
        reading = telemetry.read().gpus[0]
    assert reading.links[7].quantities["nvlink_tx_bytes_per_second"] == 5
    assert reading.quantities["nvlink_throughput_bytes_per_second"] == 18 * 20


def test_counters_of_links_that_start_again_give_no_value(
    nvml: MakeNvml, every_two_seconds: None
) -> None:
    mocked = nvml(gpu(0))
    mocked.describe((gpu(0),), nvlink=True)
    with Telemetry(str(mocked.library)) as telemetry:
        set_links(mocked, 1000, 1000, 138, 139)
        telemetry.read()
        set_links(mocked, 1, 1, 138, 139)
        reading = telemetry.read().gpus[0]
    assert "nvlink_throughput_bytes_per_second" not in reading.quantities
    assert [link.quantities for link in reading.links] == [{}] * 18


def test_what_takes_long_is_not_read_in_each_pass(
    nvml: MakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The energy of an H200 takes 3 to 8 ms, a field of throttling 1 to 5."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("cdi_gen.telemetry.kept.time", clock)
    mocked = nvml(gpu(0))
    energy, throttled = "gpu_energy_joules_total", "gpu_power_throttle_seconds_total"

    def told(telemetry: Telemetry, seconds: float) -> tuple[float, float]:
        clock.now += seconds
        quantities = telemetry.read().gpus[0].quantities
        return quantities[energy], quantities[throttled]

    with Telemetry(str(mocked.library)) as telemetry:
        mocked.values.set("0", energy=1000)
        mocked.values.fields("0", {74: 10**9})
        assert told(telemetry, 0) == (1, 1)
        mocked.values.set("0", energy=2000)
        mocked.values.fields("0", {74: 2 * 10**9})
        assert told(telemetry, 29) == (1, 1)
        assert told(telemetry, 2) == (2, 1)
        assert told(telemetry, 30) == (2, 2)


def test_links_by_themselves_only_if_wanted(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.describe((gpu(0),), nvlink=True)
    with Telemetry(str(mocked.library), groups=ALL - {"links"}) as telemetry:
        assert not telemetry.read().gpus[0].links


def test_a_licence_of_a_virtual_gpu(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0), gpu(1))
    mocked.values.set("0", licensed=1)
    mocked.values.set("1", licensed=0)
    with Telemetry(str(mocked.library)) as telemetry:
        gpus = telemetry.read().gpus
    assert [one.quantities["vgpu_license_status"] for one in gpus] == [1, 0]


def test_types_of_values_of_fields(nvml: MakeNvml) -> None:
    """The member of the union depends on the type; the rest of its memory is not 0."""
    mocked = nvml(gpu(0))
    mocked.values.fields("0", {82: "-5i", 186: "1500.5d", 3: "7u", 4: 1 << 40, 5: "E4"})
    with Telemetry(str(mocked.library)) as telemetry:
        quantities = telemetry.read().gpus[0].quantities
    assert quantities["memory_temp_celsius"] == -5
    assert quantities["board_power_raw_watts"] == 1.5005
    assert (quantities["ecc_sbe_vol_total"], quantities["ecc_dbe_vol_total"]) == (7, 1 << 40)
    assert "ecc_sbe_agg_total" not in quantities


@pytest.mark.parametrize("value", ["nand", "infd"])
def test_values_that_are_no_numbers_are_absent(nvml: MakeNvml, value: str) -> None:
    mocked = nvml(gpu(0))
    mocked.values.fields("0", {82: value})
    mocked.values.set("0", gpm_2=value[:3])
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        quantities = telemetry.read().gpus[0].quantities
    assert not {"memory_temp_celsius", "sm_util_ratio"} & quantities.keys()
