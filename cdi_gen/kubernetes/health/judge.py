# SPDX-License-Identifier: Apache-2.0
"""Decides which devices are usable, from events and from regular checks of the GPUs.

NVIDIA's plugin never takes a device back. Here a device recovers when the driver says that the GPU
needs no recovery and the checks pass; after an Xid that asks for a reset, on a driver that does not
say so, only after the driver was loaded again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cdi_base.findings import Finding
from cdi_gen.kubernetes.health.xids import Rules
from cdi_gen.xids import describe

QUIET_SECONDS = 60.0
"""The time without a new event before a device recovers."""

ANY_INSTANCE = 0xFFFFFFFF
"""NVML's number of an instance for an event of the whole GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A device whose health counts."""

    uuid: str
    gpu_uuid: str
    """The UUID of the GPU that the device is, or is a part of."""
    gpu_instance: int | None = None
    """The number of the MIG device's GPU instance; None for a whole GPU."""
    compute_instance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An Xid error of a GPU, or of one of its MIG devices."""

    gpu_uuid: str
    xid: int
    gpu_instance: int = ANY_INSTANCE
    compute_instance: int = ANY_INSTANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of a check of a GPU."""

    gpu_uuid: str
    fault: str = ""
    """Why the GPU must not be used: it does not answer, rows have to be remapped."""
    recovery: str | None = None
    """The recovery that the driver asks for, empty if none; None: the driver does not say."""


@dataclass(frozen=True, slots=True)
class Change:
    """A device became usable or unusable, and why."""

    uuid: str
    healthy: bool
    finding: Finding


@dataclass(slots=True)
class _Trouble:
    """Why a device is not usable."""

    reason: str
    code: str
    since: float


@dataclass(slots=True)
class _Record:
    """What is known of a device."""

    troubles: dict[str, _Trouble] = field(default_factory=dict)
    """By their source: ``event`` and ``check``."""


class Judge:
    """Holds the health of devices. Times are those of one monotonic clock, in seconds."""

    def __init__(self, devices: Iterable[Watched], rules: Rules) -> None:
        self._rules = rules
        self._devices: tuple[Watched, ...] = ()
        self._records: dict[str, _Record] = {}
        self.watch(devices)
        self._pending: dict[str, Event] = {}
        """The last event of each GPU that the next check decides about."""

    def watch(self, devices: Iterable[Watched]) -> None:
        """Hold the health of these devices from now on; what is known of them is kept."""
        self._devices = tuple(devices)
        self._records = {
            device.uuid: self._records.get(device.uuid, _Record()) for device in self._devices
        }

    def unusable(self) -> list[Change]:
        """Return the devices that must not be used now, as changes."""
        return [
            Change(uuid, healthy=False, finding=_unusable(uuid, trouble))
            for uuid, record in self._records.items()
            for trouble in [*record.troubles.values()][:1]
        ]

    def driver_loaded(self) -> list[Change]:
        """Return what changes when the driver was loaded again, which resets the GPUs."""
        changes = []
        self._pending.clear()
        for uuid, record in self._records.items():
            if record.troubles:
                changes.append(
                    Change(uuid, healthy=True, finding=_recovered(uuid, record.troubles))
                )
                record.troubles = {}
        return changes

    def event(self, event: Event, now: float) -> list[Change]:
        """Return what an event changes."""
        meaning = self._rules.meaning(event.xid)
        if meaning == "ignored":
            return []
        if meaning == "ask-driver":
            self._pending[event.gpu_uuid] = event
            return []
        return self._trouble(event, now)

    def check(self, check: Check, now: float) -> list[Change]:
        """Return what a check changes."""
        changes: list[Change] = []
        event = self._pending.pop(check.gpu_uuid, None)
        if event is not None and check.recovery != "":
            changes += self._trouble(event, now)
        for device in self._devices:
            if device.gpu_uuid == check.gpu_uuid:
                changes += self._checked(device, check, now)
        return changes

    def _trouble(self, event: Event, now: float) -> list[Change]:
        changes = []
        for device in self._devices:
            if _concerns(event, device):
                reason = f"{describe(event.xid)} on {event.gpu_uuid}"
                trouble = _Trouble(reason, "CDG-N203", now)
                changes += self._add(device.uuid, "event", trouble)
        return changes

    def _checked(self, device: Watched, check: Check, now: float) -> list[Change]:
        record = self._records[device.uuid]
        fault = check.fault or (f"the driver asks for {check.recovery}" if check.recovery else "")
        if fault:
            return self._add(device.uuid, "check", _Trouble(fault, "CDG-N204", now))
        before = {**record.troubles}
        record.troubles.pop("check", None)
        trouble = record.troubles.get("event")
        if trouble is not None and check.recovery == "" and now - trouble.since >= QUIET_SECONDS:
            del record.troubles["event"]
        if before and not record.troubles:
            return [Change(device.uuid, healthy=True, finding=_recovered(device.uuid, before))]
        return []

    def _add(self, uuid: str, source: str, trouble: _Trouble) -> list[Change]:
        record = self._records[uuid]
        was_healthy = not record.troubles
        record.troubles[source] = trouble
        if not was_healthy:
            return []
        return [Change(uuid, healthy=False, finding=_unusable(uuid, trouble))]


def _concerns(event: Event, device: Watched) -> bool:
    if event.gpu_uuid != device.gpu_uuid:
        return False
    if device.gpu_instance is None or event.gpu_instance == ANY_INSTANCE:
        return True
    if event.gpu_instance != device.gpu_instance:
        return False
    return event.compute_instance in {ANY_INSTANCE, device.compute_instance}


def _unusable(uuid: str, trouble: _Trouble) -> Finding:
    message = f"{uuid} must not be used: {trouble.reason}"
    return Finding(trouble.code, "error", message, subject=uuid)


def _recovered(uuid: str, troubles: dict[str, _Trouble]) -> Finding:
    reasons = "; ".join(trouble.reason for trouble in troubles.values())
    message = f"{uuid} may be used again; before: {reasons}"
    return Finding("CDG-N205", "info", message, subject=uuid)
