# SPDX-License-Identifier: Apache-2.0
"""Numbers of events of GPUs and GPU instances, in total and in the last minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from cdi_gen.metrics.devices import Key, instances
from cdi_gen.telemetry.model import Reading

WINDOW = 300.0
"""Seconds; dcgm-exporter's default."""

Counts = Mapping[str, int]


class Events(NamedTuple):
    """The events of a GPU or GPU instance; None: they cannot be observed."""

    xids: Counts | None
    """The number of each Xid error; those of a GPU are without those of its GPU instances."""
    clock_events: Counts | None
    """How often each reason for lower clocks began."""


Totals = Mapping[Key, Events]


def totals(reading: Reading) -> Totals:
    """Return the events since this program began to watch."""
    events: dict[Key, Events] = {}
    for gpu in reading.gpus:
        of_instances = {number: devices[0] for number, devices in instances(gpu).items()}
        own = {
            str(number): max(
                0, count - sum(device.xids.get(number, 0) for device in of_instances.values())
            )
            for number, count in sorted(gpu.xids.items())
        }
        events[gpu.uuid, -1] = Events(
            xids=own if own or "xid_error" in gpu.quantities else None,
            clock_events=(
                gpu.clock_event_counts
                if gpu.clock_event_counts or "clocks_event_reasons" in gpu.quantities
                else None
            ),
        )
        for number, device in of_instances.items():
            xids = {str(xid): count for xid, count in sorted(device.xids.items())}
            is_observed = bool(xids) or "xid_error" in device.quantities
            events[gpu.uuid, number] = Events(xids if is_observed else None, None)
    return events


class RecentEvents:
    """Remembers totals, to tell how many events a window of time has."""

    def __init__(self, window: float = WINDOW) -> None:
        self.window = window
        self._past: deque[tuple[float, Totals]] = deque()

    def update(self, reading: Reading) -> Totals:
        """Return the events of the window that ends with a pass."""
        current = totals(reading)
        if not self._past or self._past[-1][0] < reading.time:
            self._past.append((reading.time, current))
        while len(self._past) > 1 and self._past[1][0] <= reading.time - self.window:
            self._past.popleft()
        start, before = self._past[0]
        is_before = start <= reading.time - self.window
        return {
            key: _difference(events, before.get(key) if is_before else None)
            for key, events in current.items()
        }


def _difference(now: Events, before: Events | None) -> Events:
    if before is None:
        return now
    return Events(_fewer(now.xids, before.xids), _fewer(now.clock_events, before.clock_events))


def _fewer(now: Counts | None, before: Counts | None) -> Counts | None:
    """Return what was added; a total that has become smaller began again at 0."""
    if now is None or before is None:
        return now
    added = {}
    for event, count in now.items():
        earlier = before.get(event, 0)
        added[event] = count - earlier if count >= earlier else count
    return {event: count for event, count in added.items() if count}
