# SPDX-License-Identifier: Apache-2.0
"""Makes the families of dcgm-exporter; pure.

A GPU or GPU instance has one sample for each field. It has the labels of the container that it is
for; if it is for several, it has none, because nobody can tell whose the value is. With
``is_per_container`` each container has a sample, and its own share where NVML tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cdi_gen import xids
from cdi_gen.metrics import labels
from cdi_gen.metrics.catalogue import EVENT, GPU, LANE, SelectedField, Selection
from cdi_gen.metrics.devices import (
    Entity,
    Uses,
    gpu_entities,
    link_entities,
    only_container,
    replica,
)
from cdi_gen.metrics.events import Totals
from cdi_gen.metrics.exposition import Family
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot

OF_PROCESSES = {"gpu_util_ratio": "utilization", "fb_used_bytes": "memory"}
"""The fields that NVML tells for processes, with the attributes of `ContainerUse`."""


class _Presented:
    """An entity, with the text of its labels for each set of names."""

    def __init__(
        self, entity: Entity, snapshot: Snapshot, selection: Selection, hostname: str
    ) -> None:
        self.entity = entity
        self._base = labels.text(entity.pairs)
        self._hostname = hostname
        self._labels = selection.labels
        self._texts = {"driver_version": snapshot.reading.driver_version, **entity.gpu.texts}
        self._heads: dict[str, str] = {}
        self._workload: str | None = None
        self._workloads: tuple[tuple[str, ContainerUse], ...] | None = None

    def head(self, set_name: str) -> str:
        """Return the labels of the device itself."""
        head = self._heads.get(set_name)
        if head is None:
            pairs = [(labels.DIALECTS[set_name].hostname, self._hostname)]
            pairs += [
                (label.name, self._texts.get(label.key, ""))
                for label in self._labels
                if label.set_name == set_name
            ]
            head = self._heads[set_name] = labels.joined(self._base, labels.text(pairs))
        return head

    def workload(self) -> str:
        """Return the labels of the container that the device is for, if it is for one."""
        if self._workload is None:
            container = only_container(self.entity.uses)
            self._workload = labels.text(labels.workload_pairs(container)) if container else ""
        return self._workload

    def workloads(self) -> tuple[tuple[str, ContainerUse], ...]:
        """Return the labels of each container that has the device, and what it does with it."""
        if self._workloads is None:
            self._workloads = tuple(
                (
                    labels.text(
                        [
                            *labels.workload_pairs(use.holder.container),
                            ("vgpu", replica(use.holder, self.entity.gpu.uuid)),
                        ]
                    ),
                    use,
                )
                for use in self.entity.uses
            )
        return self._workloads


class CountedEvents(NamedTuple):
    """Numbers of events."""

    totals: Totals
    recent: Totals | None
    """In the window; None: not counted."""
    window: float
    """Seconds."""


def device_families(
    snapshot: Snapshot,
    uses: Uses,
    selection: Selection,
    counted: CountedEvents,
    *,
    hostname: str = "",
    is_per_container: bool = False,
) -> Iterator[Family]:
    """Yield a family for each field that is selected."""
    gpus = [
        _Presented(entity, snapshot, selection, hostname) for entity in gpu_entities(snapshot, uses)
    ]
    links = [
        _Presented(entity, snapshot, selection, hostname) for entity in link_entities(snapshot)
    ]
    for selected in selection.fields:
        family = Family(selected.name.name, selected.name.type, selected.help)
        if selected.field.entity == EVENT:
            _add_events(family, selected, gpus, counted)
        elif selected.field.entity == GPU:
            _add_values(family, selected, gpus, is_per_container=is_per_container)
        elif selected.field.entity == LANE:
            _add_lanes(family, selected, gpus)
        else:
            _add_values(family, selected, links, is_per_container=False)
        yield family


def _add_values(
    family: Family,
    selected: SelectedField,
    presented: Iterable[_Presented],
    *,
    is_per_container: bool,
) -> None:
    key, name, set_name = selected.field.key, selected.name, selected.set_name
    for device in presented:
        quantity = device.entity.quantities.get(key)
        if quantity is None or (device.entity.is_instance and not selected.field.mig):
            continue
        value = name.value(quantity)
        head = device.head(set_name)
        if key == "xid_error":
            head = labels.joined(head, _xid_labels(quantity))
        if not is_per_container or not device.entity.uses:
            family.add(labels.joined(head, device.workload()), value)
            continue
        attribute = OF_PROCESSES.get(key)
        for workload, use in device.workloads():
            share = getattr(use, attribute) if attribute else quantity
            if share is not None:
                family.add(labels.joined(head, workload), name.value(share))


def _add_lanes(family: Family, selected: SelectedField, presented: Iterable[_Presented]) -> None:
    for device in presented:
        for link in () if device.entity.is_instance else device.entity.gpu.links:
            quantity = link.quantities.get(selected.field.key)
            if link.number == selected.field.link and quantity is not None:
                text = labels.joined(device.head(selected.set_name), device.workload())
                family.add(text, selected.name.value(quantity))


_EVENTS = {
    "xid_errors": ("xid", "xids", False),
    "xid_errors_recent": ("xid", "xids", True),
    "clock_events": ("clock_event", "clock_events", False),
    "clock_events_recent": ("clock_event", "clock_events", True),
}
"""The label of each field of events, the attribute of `Events`, and whether it has a window."""


def _add_events(
    family: Family, selected: SelectedField, presented: Iterable[_Presented], counted: CountedEvents
) -> None:
    label, attribute, is_recent = _EVENTS[selected.field.key]
    if is_recent and counted.recent is None:
        return
    events = counted.recent if is_recent and counted.recent is not None else counted.totals
    window = [("window_size_in_ms", str(int(counted.window * 1000)))] if is_recent else []
    for device in presented:
        counts = getattr(events.get(device.entity.key), attribute, None)
        if counts is None:
            continue
        head = device.head(selected.set_name)
        for event, count in counts.items():
            text = labels.text([(label, event), *window])
            family.add(labels.joined(head, text, device.workload()), count)
        if is_recent and not counts:
            # As there: a window without events has a sample that names none.
            family.add(labels.joined(head, labels.text(window), device.workload()), 0)


def _xid_labels(quantity: float) -> str:
    """Return the labels that dcgm-exporter gives the last Xid; the text is the driver's name."""
    number = int(quantity) if math.isfinite(quantity) else -1
    xid = xids.catalogue().get(number)
    message = "No Error" if number == 0 else xid.name if xid else "Unknown Error"
    return labels.text([("err_code", str(number)), ("err_msg", message)])
