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

GPU, LINK = "gpu", "link"
"""What a field belongs to: a GPU (or GPU instance), or an NVLink of a GPU."""


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
        if not self.whole or not math.isfinite(value):
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
    """``gpu`` or ``link``"""
    mig: bool
    """Whether a GPU instance has it too."""
    default: frozenset[str]
    """The sets of names in which it is a default field."""
    help: str
    nvml: str
    """Where NVML tells it."""
    names: dict[str, Name]
    """By the set of names."""


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
    """Return all fields, in the order of the file."""
    return tuple(
        Field(
            key=entry["key"],
            group=entry["group"],
            unit=entry["unit"],
            entity=entry["entity"],
            mig=entry["mig"],
            default=frozenset(entry["default"]),
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
def keys(entity: str = GPU) -> frozenset[str]:
    """Return the keys of the quantities of a GPU or of an NVLink."""
    return frozenset(field.key for field in fields() if field.entity == entity)
