# SPDX-License-Identifier: Apache-2.0
"""The catalogue of quantities, with the names that dcgm-exporter gives them.

The facts are in ``specs/cdi_specs/metrics.json``; this module defines their types. ``telemetry``
measures the keys, `cdi_gen.metrics.families` gives them names.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any, NamedTuple

import cdi_specs

OLD, NEW = "old", "new"
"""Sets of names: ``old`` is dcgm-exporter's up to 4.8, ``new`` is that from 4.9 on."""

GPU, LINK, LANE, EVENT = "gpu", "link", "lane", "event"
"""What a field is: a quantity of a GPU (or GPU instance), of an NVLink, of one NVLink as a field of
the GPU, or a number of events."""

LINKS = 18
"""NVLinks that have fields of their own, from 0 on."""


_EVERY_FLOAT_IS_WHOLE = 2.0**52


class Name(NamedTuple):
    """How a set of names presents a field."""

    name: str
    type: str
    """``gauge`` or ``counter``"""
    unit: str
    factor: float
    """The value in this unit is the quantity multiplied by this."""
    whole: bool
    """The value is a whole number, rounded down, as DCGM's integer fields."""
    is_confirmed: bool
    """Whether the name was read in a source of dcgm-exporter or DCGM."""

    def value(self, quantity: float) -> float:
        """Return the value of a quantity in this unit."""
        value = quantity * self.factor
        if not self.whole or not abs(value) < _EVERY_FLOAT_IS_WHOLE:
            return value
        # 0.57 * 100 is 56.99999999999999. The tolerance is some units in the last place.
        return math.floor(value + 1e-6 + abs(value) * 1e-15)


class Field(NamedTuple):
    """A field of dcgm-exporter."""

    key: str
    """The key of the quantity in `cdi_gen.telemetry.model.Quantities`."""
    group: str
    unit: str
    """Of the quantity."""
    entity: str
    """``gpu``, ``link``, ``lane`` or ``event``"""
    mig: bool
    """Whether a GPU instance has it too."""
    default: frozenset[str]
    """The sets of names in which it is a default field of dcgm-exporter."""
    is_shown: bool
    """Whether it is shown unless other fields are chosen."""
    help: str
    nvml: str
    """Where NVML tells it."""
    names: dict[str, Name]
    """By the set of names; of a ``lane`` with ``{link}`` in place of its number."""
    link: int = -1
    """The number of the NVLink that the names name."""

    def of_link(self, number: int) -> Field:
        """Return the field of one NVLink."""
        names = {
            set_name: name._replace(name=name.name.replace("{link}", str(number)))
            for set_name, name in self.names.items()
        }
        return self._replace(names=names, link=number)


class Label(NamedTuple):
    """A field that dcgm-exporter can make a label of each device."""

    key: str
    """``driver_version``, or a key of `cdi_gen.telemetry.model.GpuReading.texts`."""
    names: dict[str, str]
    """By the set of names."""
    is_default: bool
    nvml: str


class SelectedField(NamedTuple):
    """A field under one of its names."""

    field: Field
    set_name: str
    name: Name
    help: str


class SelectedLabel(NamedTuple):
    """A label of each device."""

    key: str
    name: str
    set_name: str
    """The set of names whose fields have the label."""


class Selection(NamedTuple):
    """What is shown of each device."""

    fields: tuple[SelectedField, ...]
    labels: tuple[SelectedLabel, ...]


class AbsentField(NamedTuple):
    """A field of dcgm-exporter that NVML does not give."""

    names: tuple[str, ...]
    reason: str


def _name(entry: dict[str, Any]) -> Name:
    """Return a name of the file."""
    return Name(
        name=entry["name"],
        type=entry["type"],
        unit=entry["unit"],
        factor=entry.get("factor", 1),
        whole=entry.get("whole", False),
        is_confirmed=entry.get("confirmed", True),
    )


@cache
def fields() -> tuple[Field, ...]:
    """Return all fields, in the order of the file; fields of single NVLinks once."""
    return tuple(
        Field(
            key=entry["key"],
            group=entry["group"],
            unit=entry["unit"],
            entity=entry["entity"],
            mig=entry["mig"],
            default=frozenset(entry["default"]),
            is_shown=entry["shown"],
            help=entry["help"],
            nvml=entry["nvml"],
            names={set_name: _name(name) for set_name, name in entry["names"].items()},
        )
        for entry in json.loads(cdi_specs.read_text("metrics.json"))["fields"]
    )


@cache
def absent_fields() -> tuple[AbsentField, ...]:
    """Return the fields that NVML does not give."""
    document = json.loads(cdi_specs.read_text("metrics.json"))
    return tuple(
        AbsentField(tuple(entry["names"]), entry["reason"]) for entry in document["absent"]
    )


@cache
def device_labels() -> tuple[Label, ...]:
    """Return the fields that can be labels."""
    return tuple(
        Label(entry["key"], entry["names"], entry["default"], entry["nvml"])
        for entry in json.loads(cdi_specs.read_text("metrics.json"))["labels"]
    )


@cache
def clock_events() -> dict[str, int]:
    """Return dcgm-exporter's names of the reasons for lower clocks, with NVML's bits."""
    events: dict[str, int] = json.loads(cdi_specs.read_text("metrics.json"))["clock_events"]
    return events


@cache
def default_selection(set_names: tuple[str, ...]) -> Selection:
    """Return what is shown by default under sets of names; equal names are shown once."""
    selected: dict[str, SelectedField] = {}
    for set_name in set_names:
        for field in fields():
            if field.is_shown and set_name in field.names:
                name = field.names[set_name]
                selected.setdefault(name.name, SelectedField(field, set_name, name, field.help))
    return Selection(
        fields=tuple(selected.values()),
        labels=tuple(
            SelectedLabel(label.key, label.names[set_name], set_name)
            for label in device_labels()
            if label.is_default
            for set_name in set_names
        ),
    )


def groups(selection: Selection) -> frozenset[str]:
    """Return the groups of the selected fields, which `cdi_gen.telemetry` has to measure."""
    return frozenset(selected.field.group for selected in selection.fields)


@cache
def keys(entity: str = GPU) -> frozenset[str]:
    """Return the keys of the quantities of a GPU or of an NVLink."""
    return frozenset(field.key for field in fields() if field.entity == entity)
