# SPDX-License-Identifier: Apache-2.0
"""Xid errors and lowered clocks, which are counted between passes."""

from __future__ import annotations

import pytest

from cdi_gen.telemetry import GpuReading, Telemetry
from tests.fakehost.gpus import A100, SHARED_INSTANCE, gpu, several, split
from tests.fakehost.nvml_mock import DRIVER_NOT_LOADED, GPU_IS_LOST
from tests.fakehost.nvml_values import CLOCK, CLOCK_REASONS, XID
from tests.telemetry.fixtures import MakeNvml
from tests.telemetry.mocked import until

IDLE, CAP, THERMAL = (CLOCK_REASONS[name] for name in ("gpu_idle", "sw_power_cap", "sw_thermal"))


def first(telemetry: Telemetry) -> GpuReading:
    return telemetry.read().gpus[0]


def test_xids_are_counted(nvml: MakeNvml) -> None:
    mocked = nvml(*several(2))
    with Telemetry(str(mocked.library)) as telemetry:
        reading = first(telemetry)
        assert (reading.xids, reading.quantities["xid_error"]) == ({}, 0)
        for number in (13, 79, 13):
            mocked.values.raise_xid("0", number)
        until(lambda: sum(first(telemetry).xids.values()) == 3)
        one, other = telemetry.read().gpus
    assert (one.xids, one.quantities["xid_error"]) == ({13: 2, 79: 1}, 13)
    assert (other.xids, other.quantities["xid_error"]) == ({}, 0)


def test_xids_before_the_start_are_not_counted(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.raise_xid("0", 13)
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.raise_xid("0", 31)
        until(lambda: first(telemetry).xids)
        assert first(telemetry).xids == {31: 1}


def test_xids_of_gpu_instances(nvml: MakeNvml) -> None:
    mocked = nvml(split(0))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.raise_xid("0:2", 43)
        mocked.values.raise_xid("0", 62)
        until(lambda: len(first(telemetry).xids) == 2)
        reading = first(telemetry)
    assert reading.xids == {43: 1, 62: 1}
    assert [mig.xids for mig in reading.mig] == [{}, {}, {43: 1}, {}, {}, {}, {}]
    assert [mig.quantities["xid_error"] for mig in reading.mig] == [0, 0, 43, 0, 0, 0, 0]


def test_an_xid_of_a_gpu_instance_is_that_of_all_its_compute_instances(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0, A100, mig_enabled=True, mig=SHARED_INSTANCE))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.raise_xid("0:1", 43)
        until(lambda: first(telemetry).xids)
        assert [mig.xids for mig in first(telemetry).mig] == [{43: 1}, {43: 1}, {43: 1}, {}]


def test_xids_are_kept_when_nvml_is_initialised_again(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.raise_xid("0", 13)
        until(lambda: first(telemetry).xids)
        mocked.values.fail("*", DRIVER_NOT_LOADED)
        assert first(telemetry).fault
        mocked.values.recover("*")
        telemetry.read()
        mocked.values.raise_xid("0", 13)
        until(lambda: first(telemetry).xids == {13: 2})


def test_a_lost_gpu_keeps_its_xids_and_does_not_end_those_of_others(
    nvml: MakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVML ends the events of all GPUs, and a new event set is needed."""
    monkeypatch.setattr("cdi_gen.telemetry.events._PAUSE_SECONDS", 0.05)
    mocked = nvml(*several(2))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.raise_xid("0", 79)
        until(lambda: first(telemetry).xids)
        mocked.values.fail("0", GPU_IS_LOST)
        until(lambda: not mocked.count("event_sets"))
        assert (first(telemetry).fault, first(telemetry).xids) == ("GPU is lost", {79: 1})
        until(lambda: mocked.count("event_sets"))
        mocked.values.raise_xid("1", 31)
        until(lambda: telemetry.read().gpus[1].xids == {31: 1})
        mocked.values.recover("0")
        assert not first(telemetry).fault
        mocked.values.raise_xid("0", 79)
        until(lambda: first(telemetry).xids == {79: 2})
    assert mocked.count("event_sets") == 0


@pytest.mark.parametrize("types", [0, "E999"])
def test_a_gpu_that_reports_no_xids_has_no_value_for_them(nvml: MakeNvml, types: int | str) -> None:
    mocked = nvml(*several(2))
    mocked.values.set("0", event_types=types)
    with Telemetry(str(mocked.library)) as telemetry:
        one, other = telemetry.read().gpus
    assert "xid_error" not in one.quantities
    assert other.quantities["xid_error"] == 0


def test_clock_events_count_how_often_a_reason_began(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    with Telemetry(str(mocked.library)) as telemetry:
        for bits in (CAP, CAP, IDLE, CAP | THERMAL, CAP, 0, CAP):
            mocked.values.set("0", clock_reasons=bits)
            telemetry.read()
        counts = first(telemetry).clock_event_counts
    assert counts == {
        "gpu_idle": 1,
        "clocks_setting": 0,
        "power_cap": 2,
        "hw_slowdown": 0,
        "sync_boost": 0,
        "sw_thermal": 1,
        "hw_thermal": 0,
        "hw_power_brake": 0,
        "display_clocks": 0,
    }


def test_clock_events_between_two_passes(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.set("0", clock_reasons=0)
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        calls = mocked.count("calls")
        mocked.values.set("0", clock_reasons=THERMAL)
        mocked.values.raise_event("0", CLOCK)
        until(lambda: mocked.count("calls") > calls)
        mocked.values.set("0", clock_reasons=0)
        reading = first(telemetry)
    assert reading.clock_events == frozenset()
    assert reading.clock_event_counts["sw_thermal"] == 1
    assert reading.xids == {}


def test_a_gpu_without_reasons_has_no_clock_events(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    mocked.values.remove("0", "clock_reasons")
    with Telemetry(str(mocked.library)) as telemetry:
        reading = first(telemetry)
    assert (reading.clock_events, reading.clock_event_counts) == (frozenset(), {})


def test_an_event_of_another_type_is_no_xid(nvml: MakeNvml) -> None:
    mocked = nvml(gpu(0))
    with Telemetry(str(mocked.library)) as telemetry:
        telemetry.read()
        mocked.values.raise_event("0", CLOCK, 79)
        mocked.values.raise_event("0", XID, 13)
        until(lambda: first(telemetry).xids)
        assert first(telemetry).xids == {13: 1}
