# SPDX-License-Identifier: Apache-2.0
"""Which events and checks take a device out, and when it comes back."""

from __future__ import annotations

import pytest

from cdi_gen.kubernetes.health.judge import Change, Check, Event, Judge, Watched
from cdi_gen.kubernetes.health.xids import Rules, rules
from cdi_gen.xids import catalogue

GPU, OTHER = "GPU-0", "GPU-1"
MIG_5, MIG_6 = "MIG-5", "MIG-6"
DEVICES = (
    Watched(uuid=GPU, gpu_uuid=GPU),
    Watched(uuid=MIG_5, gpu_uuid=GPU, gpu_instance=5, compute_instance=0),
    Watched(uuid=MIG_6, gpu_uuid=GPU, gpu_instance=6, compute_instance=0),
    Watched(uuid=OTHER, gpu_uuid=OTHER),
)
FELL_OFF, ECC, CONTAINED, PREEMPTED, RECOVERY = 79, 48, 94, 45, 154


@pytest.fixture
def judge() -> Judge:
    return Judge(DEVICES, Rules())


def names(changes: list[Change], *, healthy: bool = False) -> list[str]:
    assert all(change.healthy == healthy for change in changes)
    return [change.uuid for change in changes]


def well(gpu: str = GPU, recovery: str | None = "") -> Check:
    return Check(gpu_uuid=gpu, recovery=recovery)


class TestRules:
    @pytest.mark.parametrize(
        ("xid", "meaning"),
        [
            (13, "ignored"),  # an application writes out of its bounds
            (31, "ignored"),
            (43, "ignored"),
            (94, "ignored"),  # contained: NVIDIA's plugin takes the GPU out
            (46, "critical"),
            (79, "critical"),
            (95, "critical"),
            (109, "critical"),  # NVIDIA's plugin ignores it, and its catalogue says RESET_GPU
            (119, "critical"),
            (45, "ask-driver"),
            (48, "ask-driver"),
            (74, "ask-driver"),
            (154, "ask-driver"),
            (171, "ask-driver"),
            (999, "critical"),
        ],
    )
    def test_the_catalogue_decides(self, xid: int, meaning: str) -> None:
        assert Rules().meaning(xid) == meaning

    @pytest.mark.parametrize(
        ("disable", "enable", "xid", "meaning"),
        [
            ("79", "", 79, "ignored"),
            ("79, 95", "", 95, "ignored"),
            ("xids", "", 79, "ignored"),
            ("XIDS", "79", 79, "critical"),
            ("", "13", 13, "critical"),
            ("13", "13", 13, "critical"),
            ("", "all", 13, "critical"),
            ("seventy", "", 79, "critical"),
        ],
    )
    def test_variables_change_it(self, disable: str, enable: str, xid: int, meaning: str) -> None:
        assert rules(disable, enable).meaning(xid) == meaning

    def test_all_checks_can_be_disabled(self) -> None:
        assert not rules("all", "79").checks
        assert rules("xids").checks

    def test_the_catalogue_has_every_xid_that_nvidias_plugin_names(self) -> None:
        assert catalogue().keys() >= {13, 31, 43, 45, 68, 109, 48, 79, 94, 95, 119, 154}


def test_a_fault_of_an_application_changes_nothing(judge: Judge) -> None:
    assert judge.event(Event(gpu_uuid=GPU, xid=CONTAINED), 0) == []
    assert judge.check(well(), 1) == []


def test_an_event_of_a_gpu_takes_out_all_its_devices_and_no_other(judge: Judge) -> None:
    changes = judge.event(Event(gpu_uuid=GPU, xid=FELL_OFF), 0)
    assert names(changes) == [GPU, MIG_5, MIG_6]
    assert (
        "Xid 79 (ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS) on GPU-0" in changes[0].finding.message
    )
    assert judge.event(Event(gpu_uuid=GPU, xid=FELL_OFF), 1) == [], "it is said once"


def test_an_event_of_a_mig_device_takes_out_the_device_and_its_gpu(judge: Judge) -> None:
    event = Event(gpu_uuid=GPU, xid=FELL_OFF, gpu_instance=5, compute_instance=0)
    assert names(judge.event(event, 0)) == [GPU, MIG_5]


def test_it_recovers_after_a_quiet_time_if_the_driver_asks_for_nothing(judge: Judge) -> None:
    judge.event(Event(gpu_uuid=OTHER, xid=FELL_OFF), 0)
    assert judge.check(well(OTHER), 59) == []
    assert names(judge.check(well(OTHER), 60), healthy=True) == [OTHER]


def test_the_quiet_time_begins_with_the_last_event(judge: Judge) -> None:
    judge.event(Event(gpu_uuid=OTHER, xid=FELL_OFF), 0)
    judge.event(Event(gpu_uuid=OTHER, xid=FELL_OFF), 50)
    assert judge.check(well(OTHER), 100) == []


def test_on_a_driver_that_does_not_say_it_recovers_when_the_driver_is_loaded_again(
    judge: Judge,
) -> None:
    judge.event(Event(gpu_uuid=OTHER, xid=FELL_OFF), 0)
    assert judge.check(well(OTHER, recovery=None), 10_000) == []
    assert names(judge.driver_loaded(), healthy=True) == [OTHER]
    assert judge.driver_loaded() == []


def test_the_driver_decides_about_some_events(judge: Judge) -> None:
    event = Event(gpu_uuid=OTHER, xid=ECC)
    assert judge.event(event, 0) == []
    assert judge.check(well(OTHER), 1) == [], "the driver asks for no recovery"
    judge.event(event, 2)
    assert names(judge.check(well(OTHER, recovery="a reset of the GPU"), 3)) == [OTHER]


def test_if_the_driver_does_not_say_such_an_event_counts(judge: Judge) -> None:
    judge.event(Event(gpu_uuid=OTHER, xid=ECC), 0)
    assert names(judge.check(well(OTHER, recovery=None), 1)) == [OTHER]


def test_a_check_that_fails_takes_out_and_one_that_passes_takes_back(judge: Judge) -> None:
    lost = Check(gpu_uuid=OTHER, fault="NVML reports: GPU is lost")
    changes = judge.check(lost, 0)
    assert names(changes) == [OTHER]
    assert changes[0].finding.message == "GPU-1 must not be used: NVML reports: GPU is lost"
    assert judge.check(lost, 30) == []
    assert names(judge.check(well(OTHER, recovery=None), 60), healthy=True) == [OTHER]


def test_all_reasons_have_to_end(judge: Judge) -> None:
    judge.event(Event(gpu_uuid=OTHER, xid=FELL_OFF), 0)
    judge.check(Check(gpu_uuid=OTHER, fault="lost"), 30)
    assert judge.check(well(OTHER), 59) == []
    assert names(judge.check(well(OTHER), 61), healthy=True) == [OTHER]


def test_what_is_known_is_kept_when_devices_come_and_go(judge: Judge) -> None:
    judge.event(Event(gpu_uuid=GPU, xid=FELL_OFF), 0)
    judge.watch(DEVICES[:2])
    assert names(judge.check(well(), 100), healthy=True) == [GPU, MIG_5]


def test_an_event_of_an_unknown_gpu_changes_nothing(judge: Judge) -> None:
    assert judge.event(Event(gpu_uuid="GPU-9", xid=FELL_OFF), 0) == []
    assert judge.check(well("GPU-9"), 0) == []
