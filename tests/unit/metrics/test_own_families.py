# SPDX-License-Identifier: Apache-2.0
"""What cdi-gen knows of itself, as text for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cdi_gen.metrics.exposition import render
from cdi_gen.metrics.own.families import families
from cdi_gen.metrics.own.model import (
    DevicePluginState,
    DoctorState,
    Examination,
    FindingCount,
    OwnState,
    ResourceState,
    SpecFile,
    SpecState,
)

NOW = 1_800_000_000.0


def lines(**states: Any) -> list[str]:
    """The samples of a state."""
    text = render(families(OwnState(**states), NOW)).decode()
    assert [*text_string_to_metric_families(text)] or not text
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_specs() -> None:
    state = SpecState(
        is_stale=True,
        differences={"CDG-V107": 2, "CDG-V102": 1},
        devices={"usable": 7, "stale": 1, "conflicting": 0, "missing": 0, "left-out": 0},
        files=(SpecFile(path="/run/cdi/nvidia.json", modified=NOW - 60.4),),
        refreshed=NOW - 3600,
        refresh_exit_code=5,
    )
    assert lines(specs=state) == [
        "cdi_gen_spec_stale 1",
        'cdi_gen_spec_differences{code="CDG-V102"} 1',
        'cdi_gen_spec_differences{code="CDG-V107"} 2',
        'cdi_gen_spec_devices{state="usable"} 7',
        'cdi_gen_spec_devices{state="stale"} 1',
        'cdi_gen_spec_devices{state="conflicting"} 0',
        'cdi_gen_spec_devices{state="missing"} 0',
        'cdi_gen_spec_devices{state="left-out"} 0',
        'cdi_gen_spec_age_seconds{path="/run/cdi/nvidia.json"} 60',
        "cdi_gen_spec_last_refresh_timestamp_seconds 1799996400",
        "cdi_gen_spec_last_refresh_exit_code 5",
        "cdi_gen_spec_last_refresh_success 0",
    ]


def test_a_refresh_without_a_broken_device_is_a_success() -> None:
    (_, sample) = lines(specs=SpecState(refresh_exit_code=4))
    assert sample == "cdi_gen_spec_last_refresh_success 1"


def test_a_host_without_driver_and_specs_has_no_samples_of_them() -> None:
    assert lines(specs=SpecState()) == []


def test_a_clock_that_was_set_back_gives_no_negative_age() -> None:
    state = SpecState(files=(SpecFile(path="/etc/cdi/a.json", modified=NOW + 60),))
    assert lines(specs=state) == ['cdi_gen_spec_age_seconds{path="/etc/cdi/a.json"} 0']


def test_a_hostile_name_of_a_file_stays_in_its_label() -> None:
    state = SpecState(files=(SpecFile(path='/etc/cdi/"} 1\nup 0\\.json', modified=NOW),))
    (line,) = lines(specs=state)
    assert line.startswith('cdi_gen_spec_age_seconds{path="/etc/cdi/\\"} 1')
    assert line.endswith('.json"} 0')


def test_doctor() -> None:
    state = DoctorState(
        findings=(FindingCount(code="CDG-A013", severity="warning", count=2),),
        checks={"ok": 20, "warning": 1, "fault": 0},
    )
    assert lines(doctor=state) == [
        'cdi_gen_doctor_findings{code="CDG-A013",severity="warning"} 2',
        'cdi_gen_doctor_checks{status="ok"} 20',
        'cdi_gen_doctor_checks{status="warning"} 1',
        'cdi_gen_doctor_checks{status="fault"} 0',
    ]


def test_device_plugin() -> None:
    state = DevicePluginState(
        sockets=1,
        kubelet_answers=True,
        plugin_answers=True,
        resources=(
            ResourceState(
                name="nvidia.com/gpu", allocatable=7, allocated=2, healthy=7, unhealthy=1
            ),
            ResourceState(name="nvidia.com/mig-1g.10gb", allocatable=0, allocated=1),
        ),
    )
    assert lines(device_plugin=state) == [
        "cdi_gen_device_plugin_sockets 1",
        "cdi_gen_device_plugin_kubelet_up 1",
        "cdi_gen_device_plugin_up 1",
        'cdi_gen_device_plugin_registered{resource="nvidia.com/gpu"} 1',
        'cdi_gen_device_plugin_registered{resource="nvidia.com/mig-1g.10gb"} 0',
        'cdi_gen_device_plugin_allocatable_devices{resource="nvidia.com/gpu"} 7',
        'cdi_gen_device_plugin_allocatable_devices{resource="nvidia.com/mig-1g.10gb"} 0',
        'cdi_gen_device_plugin_allocated_devices{resource="nvidia.com/gpu"} 2',
        'cdi_gen_device_plugin_allocated_devices{resource="nvidia.com/mig-1g.10gb"} 1',
        'cdi_gen_device_plugin_advertised_devices{resource="nvidia.com/gpu",health="healthy"} 7',
        'cdi_gen_device_plugin_advertised_devices{resource="nvidia.com/gpu",health="unhealthy"} 1',
    ]


def test_a_kubelet_that_does_not_answer_gives_no_numbers() -> None:
    state = DevicePluginState(sockets=0, kubelet_answers=False)
    assert lines(device_plugin=state) == [
        "cdi_gen_device_plugin_sockets 0",
        "cdi_gen_device_plugin_kubelet_up 0",
    ]


def test_an_examination_that_failed() -> None:
    examination = Examination(
        name="doctor", time=NOW, seconds=0.30449, runs=3, failures=1, fault="no result after 120 s"
    )
    assert lines(examinations=(examination,)) == [
        'cdi_gen_examination_success{examination="doctor"} 0',
        'cdi_gen_examination_timestamp_seconds{examination="doctor"} 1800000000',
        'cdi_gen_examination_duration_seconds{examination="doctor"} 0.304',
        'cdi_gen_examinations_total{examination="doctor"} 3',
        'cdi_gen_examination_failures_total{examination="doctor"} 1',
    ]
