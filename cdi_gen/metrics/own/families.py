# SPDX-License-Identifier: Apache-2.0
"""Makes families of samples from what cdi-gen knows of itself; pure.

``cdi_gen_spec_*``, ``cdi_gen_doctor_*``, ``cdi_gen_device_plugin_*``, and ``cdi_gen_examination_*``
about the examinations themselves. What is not known gives no sample.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdi_gen.metrics import labels
from cdi_gen.metrics.exposition import COUNTER, GAUGE, Family
from cdi_gen.metrics.own.model import (
    DevicePluginState,
    DoctorState,
    Examination,
    OwnState,
    SpecState,
)

REFRESH_SUCCESSES = frozenset({0, 4})
"""Exit codes of a refresh that left the specs of the host; 4: without a broken device."""


def families(state: OwnState, now: float) -> tuple[Family, ...]:
    """Return the families.

    Args:
        state: what is known.
        now: seconds since the epoch.
    """
    made = [*_examinations(state.examinations)]
    if state.specs is not None:
        made += _specs(state.specs, now)
    if state.doctor is not None:
        made += _doctor(state.doctor)
    if state.device_plugin is not None:
        made += _device_plugin(state.device_plugin)
    return tuple(made)


def _single(name: str, help_: str, value: float | None, type_: str = GAUGE) -> Family:
    family = Family(name, type_, help_)
    if value is not None:
        family.add("", value)
    return family


def _specs(state: SpecState, now: float) -> Iterator[Family]:
    yield _single(
        "cdi_gen_spec_stale",
        "Whether the specs that engines read differ from the host, as cdi-gen check tells.",
        state.is_stale,
    )
    differences = Family(
        "cdi_gen_spec_differences",
        GAUGE,
        "Differences between the specs that engines read and the host, by code.",
    )
    for code, count in sorted(state.differences.items()):
        differences.add(labels.text([("code", code)]), count)
    yield differences
    devices = Family(
        "cdi_gen_spec_devices",
        GAUGE,
        "GPUs and MIG devices of specs and host: usable, stale, conflicting, missing, left-out.",
    )
    for device_state, count in state.devices.items():
        devices.add(labels.text([("state", device_state)]), count)
    yield devices
    ages = Family("cdi_gen_spec_age_seconds", GAUGE, "Time since a spec file was written.")
    for file in state.files:
        ages.add(labels.text([("path", file.path)]), max(0, round(now - file.modified)))
    yield ages
    yield _single(
        "cdi_gen_spec_last_refresh_timestamp_seconds",
        "End of the last refresh that had something to do, since the boot.",
        state.refreshed,
    )
    yield _single(
        "cdi_gen_spec_last_refresh_exit_code",
        "Exit code of that refresh: 3 no driver, 4 a device was left out, 5 held back, 1 an error.",
        state.refresh_exit_code,
    )
    exit_code = state.refresh_exit_code
    yield _single(
        "cdi_gen_spec_last_refresh_success",
        "Whether the specs were those of the host after that refresh: exit code 0 or 4.",
        None if exit_code is None else exit_code in REFRESH_SUCCESSES,
    )


def _doctor(state: DoctorState) -> Iterator[Family]:
    findings = Family(
        "cdi_gen_doctor_findings",
        GAUGE,
        "Findings of cdi-gen doctor; cdi-gen explain CODE tells what to do.",
    )
    for finding in state.findings:
        pairs = [("code", finding.code), ("severity", finding.severity)]
        findings.add(labels.text(pairs), finding.count)
    yield findings
    checks = Family("cdi_gen_doctor_checks", GAUGE, "Checks of cdi-gen doctor, by their status.")
    for status, count in state.checks.items():
        checks.add(labels.text([("status", status)]), count)
    yield checks


def _device_plugin(state: DevicePluginState) -> Iterator[Family]:
    yield _single(
        "cdi_gen_device_plugin_sockets",
        "Sockets of device plugins, of any vendor, in the directory of the kubelet.",
        state.sockets,
    )
    yield _single(
        "cdi_gen_device_plugin_kubelet_up",
        "Whether the kubelet tells its devices (PodResources).",
        state.kubelet_answers,
    )
    yield _single(
        "cdi_gen_device_plugin_up",
        "Whether the device plugin answers at the configured address of its metrics.",
        state.plugin_answers,
    )
    registered = Family(
        "cdi_gen_device_plugin_registered",
        GAUGE,
        "Whether the kubelet has a device of the resource to give.",
    )
    allocatable = Family(
        "cdi_gen_device_plugin_allocatable_devices",
        GAUGE,
        "Devices that pods can get: registered and healthy, allocated or not.",
    )
    allocated = Family(
        "cdi_gen_device_plugin_allocated_devices", GAUGE, "Devices that containers of pods have."
    )
    advertised = Family(
        "cdi_gen_device_plugin_advertised_devices",
        GAUGE,
        "Devices that the device plugin advertises, from its own metrics.",
    )
    for resource in state.resources:
        pair = ("resource", resource.name)
        text = labels.text([pair])
        if resource.allocatable is not None:
            registered.add(text, resource.allocatable > 0)
            allocatable.add(text, resource.allocatable)
        if resource.allocated is not None:
            allocated.add(text, resource.allocated)
        for health, count in (("healthy", resource.healthy), ("unhealthy", resource.unhealthy)):
            if count is not None:
                advertised.add(labels.text([pair, ("health", health)]), count)
    yield from (registered, allocatable, allocated, advertised)


def _examinations(examinations: tuple[Examination, ...]) -> Iterator[Family]:
    success = Family(
        "cdi_gen_examination_success",
        GAUGE,
        "Whether the last examination of specs, doctor or device plugin gave a result.",
    )
    times = Family("cdi_gen_examination_timestamp_seconds", GAUGE, "End of the last examination.")
    durations = Family(
        "cdi_gen_examination_duration_seconds", GAUGE, "Duration of the last examination."
    )
    runs = Family("cdi_gen_examinations_total", COUNTER, "Examinations.")
    failures = Family(
        "cdi_gen_examination_failures_total", COUNTER, "Examinations without a result."
    )
    for examination in examinations:
        text = labels.text([("examination", examination.name)])
        success.add(text, not examination.fault)
        times.add(text, round(examination.time, 3))
        durations.add(text, round(examination.seconds, 3))
        runs.add(text, examination.runs)
        failures.add(text, examination.failures)
    yield from (success, times, durations, runs, failures)
