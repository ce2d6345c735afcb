# SPDX-License-Identifier: Apache-2.0
"""The types of what the examinations find out, and their JSON form.

A value that cannot be known is None or absent, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPECS, DOCTOR, DEVICE_PLUGIN = "specs", "doctor", "device-plugin"
"""The names of the examinations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """A spec file from which engines take devices of NVIDIA."""

    path: str
    modified: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecState:
    """The specs that engines read, compared with the host."""

    is_stale: bool | None = None
    """Whether there is a difference, as ``cdi-gen check`` tells; None: neither driver nor spec."""
    differences: Mapping[str, int] = field(default_factory=dict)
    """The number of differences, by code."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """The number of GPUs and MIG devices, by state, see `cdi_gen.refresh.device_states`."""
    files: tuple[SpecFile, ...] = ()
    refreshed: float | None = None
    """When the last refresh ended, in seconds since the epoch; None: no refresh since the boot."""
    refresh_exit_code: int | None = None

    @classmethod
    def of(cls, document: dict[str, Any]) -> SpecState:
        """Return the value of a JSON form."""
        files = tuple(SpecFile(**fields) for fields in document.pop("files"))
        return cls(files=files, **document)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingCount:
    """How often doctor has a finding."""

    code: str
    severity: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorState:
    """What ``cdi-gen doctor`` finds."""

    findings: tuple[FindingCount, ...] = ()
    checks: Mapping[str, int] = field(default_factory=dict)
    """The number of checks, by each of `cdi_gen.doctor.check.STATUSES`."""

    @classmethod
    def of(cls, document: dict[str, Any]) -> DoctorState:
        """Return the value of a JSON form."""
        findings = tuple(FindingCount(**fields) for fields in document.pop("findings"))
        return cls(findings=findings, **document)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceState:
    """A resource of Kubernetes, as ``nvidia.com/gpu``."""

    name: str
    allocatable: int | None = None
    """Devices that the kubelet would give to pods: registered and healthy, allocated or not."""
    allocated: int | None = None
    """Devices that containers of pods have."""
    healthy: int | None = None
    """Devices that the device plugin advertises as healthy; None: its metrics are not read."""
    unhealthy: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePluginState:
    """The device plugin of a node, as its kubelet and its own metrics tell."""

    sockets: int | None = None
    """Sockets of device plugins, of any vendor, in the kubelet's directory; None: no kubelet."""
    kubelet_answers: bool | None = None
    """None: the kubelet has no socket for PodResources."""
    plugin_answers: bool | None = None
    """None: the address of the plugin's metrics is not configured."""
    resources: tuple[ResourceState, ...] = ()

    @classmethod
    def of(cls, document: dict[str, Any]) -> DevicePluginState:
        """Return the value of a JSON form."""
        resources = tuple(ResourceState(**fields) for fields in document.pop("resources"))
        return cls(resources=resources, **document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """How an examination went."""

    name: str
    time: float
    """The end of the last one, in seconds since the epoch."""
    seconds: float
    """The duration of the last one."""
    runs: int
    failures: int
    fault: str = ""
    """Why the last one failed; its state is then absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnState:
    """What cdi-gen knows of itself at one time."""

    examinations: tuple[Examination, ...] = ()
    """Those that have run."""
    specs: SpecState | None = None
    doctor: DoctorState | None = None
    device_plugin: DevicePluginState | None = None
