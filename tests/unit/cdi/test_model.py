# SPDX-License-Identifier: Apache-2.0
"""Specs are values: they hash, compare, cannot be changed, and edits add up."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, IntelRdt, Mount, Spec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

A = ContainerEdits(env=("A=1",), additional_gids=(2,))
B = ContainerEdits(env=("B=1", "A=1"), additional_gids=(1, 2))


def test_both_in_order_each_once() -> None:
    assert (A | B).env == ("A=1", "B=1")
    assert (B | A).env == ("B=1", "A=1")
    assert (A | B).additional_gids == (2, 1)


def test_edits_that_differ_in_anything_are_two() -> None:
    first = Mount(host_path="/a", container_path="/b", options=("ro", "bind"))
    second = Mount(host_path="/a", container_path="/b", options=("bind", "ro"))
    edits = ContainerEdits(mounts=(first,)) | ContainerEdits(mounts=(second, first))
    assert edits.mounts == (first, second)


def test_the_later_intel_rdt_wins_and_none_does_not() -> None:
    one, two = IntelRdt(clos_id="one"), IntelRdt(clos_id="two")
    assert (ContainerEdits(intel_rdt=one) | ContainerEdits(intel_rdt=two)).intel_rdt == two
    assert (ContainerEdits(intel_rdt=one) | ContainerEdits()).intel_rdt == one


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ContainerEdits)])
def test_any_edit_makes_edits_true(field: str) -> None:
    value: Any = IntelRdt() if field == "intel_rdt" else ("",)
    assert ContainerEdits(**{field: value})
    assert not ContainerEdits()


def test_a_spec_is_a_frozen_hashable_value() -> None:
    def spec() -> Spec:
        node = DeviceNode(path="/dev/a", major=1, minor=0)
        device = Device(name="0", container_edits=ContainerEdits(device_nodes=(node,)))
        return Spec(cdi_version="0.5.0", kind="a/b", annotations=(("k", "v"),), devices=(device,))

    assert spec() == spec()
    assert len({spec(), spec()}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(spec(), "kind", "c/d")  # noqa: B010 - mypy refuses an assignment


def test_the_fields_are_in_the_order_of_the_standard() -> None:
    def names(type_: type[DataclassInstance]) -> list[str]:
        return [field.name for field in dataclasses.fields(type_)]

    assert names(Spec) == ["cdi_version", "kind", "annotations", "devices", "container_edits"]
    assert names(ContainerEdits) == [
        *("env", "device_nodes", "net_devices", "hooks", "mounts", "intel_rdt"),
        "additional_gids",
    ]
