# SPDX-License-Identifier: Apache-2.0
"""From any inventory comes a spec that every engine takes, or one error for a person."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.validation import check
from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate, generate_capabilities
from cdi_gen.generate.explain import table
from cdi_gen.generate.modes import transports
from cdi_gen.generate.naming import gpu_name, mig_name
from cdi_gen.generate.options import STRATEGIES, Options
from cdi_gen.inventory import Inventory, json_form
from tests.property import inventories


def faults(spec: Spec) -> list[str]:
    return [str(each) for each in check(spec) if each.severity != "warning"]


@given(inventories.sound(), st.lists(st.sampled_from(STRATEGIES), min_size=1, max_size=4))
def test_a_hosts_inventory_gives_a_sound_spec(inventory: Inventory, names: list[str]) -> None:
    """The only refusals are those that a host can deserve."""
    options = Options(names=tuple(dict.fromkeys(names)))
    try:
        spec = generate(inventory, options)
    except CdiGenError as error:
        refusal = error.message
    else:
        refusal = ""
        assert not faults(spec)
    event(refusal[:20] or "spec")
    deserved = ("driver is split", "cannot be trusted", "no GPU", "none has a MIG device")
    assert not refusal or any(words in refusal for words in deserved)


@given(inventories.sound(), inventories.options)
def test_any_options_give_a_sound_spec_or_an_error(inventory: Inventory, options: Options) -> None:
    for make in (generate, generate_capabilities):
        try:
            spec = make(inventory, options)
        except CdiGenError:
            continue
        assert not faults(spec)


@given(inventories.hostile(), inventories.options)
def test_any_inventory_gives_a_sound_spec_or_an_error(
    inventory: Inventory, options: Options
) -> None:
    for make in (generate, generate_capabilities):
        try:
            spec = make(inventory, options)
        except CdiGenError:
            continue
        assert not faults(spec)
        event("spec")


@given(inventories.sound(), st.sampled_from(sorted(transports.MODES)))
def test_every_node_of_a_transport_is_in_its_spec_alone(inventory: Inventory, mode: str) -> None:
    found = {each: transports.spec(each, inventory) for each in transports.MODES}
    nodes = {
        each: {
            node.path
            for device in spec.devices
            if device.name == "all"
            for node in device.container_edits.device_nodes
        }
        for each, spec in found.items()
        if spec
    }
    assert sum(map(len, nodes.values())) == len({node.path for node in inventory.transport_nodes})
    assert set().union(*nodes.values()) == {node.path for node in inventory.transport_nodes}
    spec = found[mode]
    event(f"{mode}: {'spec' if spec else 'none'}")
    if spec:
        assert not faults(spec)
        assert nodes[mode]
    without = dataclasses.replace(inventory, transport_nodes=(), transport_files=())
    assert transports.spec(mode, without) is None


@given(
    inventories.sound() | inventories.hostile(),
    inventories.options,
    st.sampled_from(sorted(transports.MODES)),
)
def test_a_transport_of_any_inventory_is_a_sound_spec_or_an_error(
    inventory: Inventory, options: Options, mode: str
) -> None:
    for chosen in (options, None):
        try:
            spec = transports.spec(mode, inventory, chosen)
        except CdiGenError:
            continue
        if spec:
            assert not faults(spec)
            event("spec")


@st.composite
def nearly_sound(draw: st.DrawFn) -> Inventory:
    """A host's inventory in which one value is replaced by any other of its type."""
    document = json.loads(json_form.dump(draw(inventories.sound())))
    places: list[tuple[Any, str | int]] = []
    pending = [document]
    while pending:
        value = pending.pop()
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, (dict, list)):
                pending.append(item)
            elif key != "formatVersion":
                places.append((value, key))
    container, key = draw(st.sampled_from(places))
    old = container[key]
    kinds = {bool: st.booleans(), int: inventories.numbers}
    replaced = kinds.get(type(old), inventories.texts)
    container[key] = draw(replaced)
    return json_form.load(json.dumps(document))


@given(nearly_sound(), st.booleans())
def test_one_wrong_value_gives_a_sound_spec_or_an_error(inventory: Inventory, hooks: bool) -> None:
    for options in (Options(hooks=hooks), Options(names=STRATEGIES, hooks=hooks)):
        try:
            spec = generate(inventory, options)
        except CdiGenError:
            event("refused")
            continue
        assert not faults(spec)
        event("spec")


@given(inventories.sound() | inventories.hostile())
def test_load_is_the_inverse_of_dump(inventory: Inventory) -> None:
    """`cdi-gen inventory` here, `cdi-gen generate --inventory` elsewhere: the same bytes."""
    text = json_form.dump(inventory)
    assert text.isascii()
    elsewhere = json_form.load(text)
    assert elsewhere == inventory
    assert json_form.dump(elsewhere) == text
    try:
        here = wire.dump(generate(inventory))
    except CdiGenError:
        return
    assert wire.dump(generate(elsewhere)) == here


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | inventories.numbers | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*(field.name for field in dataclasses.fields(Inventory)), "formatVersion"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.text() | JSON_VALUES.map(json.dumps) | nearly_sound().map(json_form.dump))
def test_any_text_is_an_inventory_or_an_error(text: str) -> None:
    try:
        inventory = json_form.load(text)
    except json_form.InventoryError:
        return
    assert isinstance(inventory, Inventory)


@given(inventories.sound(), st.data())
def test_any_json_in_any_place_is_an_error(inventory: Inventory, data: st.DataObject) -> None:
    document = json.loads(json_form.dump(inventory))
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = data.draw(JSON_VALUES)
    try:
        loaded = json_form.load(json.dumps(document))
    except json_form.InventoryError:
        return
    json.loads(json_form.dump(loaded))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"formatVersion": 1' + "0" * 5000 + "}", "NaN", '{"a": 1' * 2000]
)
def test_texts_that_break_parsers(text: str) -> None:
    with pytest.raises(json_form.InventoryError):
        json_form.load(text)


@given(inventories.sound(), st.sets(st.sampled_from(STRATEGIES), min_size=1))
def test_names_are_unique_under_every_combination(inventory: Inventory, names: set[str]) -> None:
    for whole in (True, False):
        try:
            spec = generate(inventory, Options(names=tuple(sorted(names)), all_device=whole))
        except CdiGenError:
            continue
        found = [device.name for device in spec.devices]
        assert len(found) == len(set(found))


@given(inventories.sound(), st.sampled_from(STRATEGIES))
def test_a_device_is_the_same_under_each_of_its_names(inventory: Inventory, name: str) -> None:
    """And what is asked for by a name is in the spec, whatever names were to be written."""
    try:
        spec = generate(inventory, Options(names=STRATEGIES))
    except CdiGenError:
        assume(False)
    edits = {device.name: device.container_edits for device in spec.devices}
    for gpu in inventory.gpus:
        if not gpu.mig_enabled:
            found = [edits[each] for strategy in STRATEGIES if (each := gpu_name(gpu, strategy))]
            assert found.count(found[0]) == len(found)
            if asked := gpu_name(gpu, name):
                alone = generate(inventory, Options(names=STRATEGIES, devices=(asked,)))
                assert {device.name for device in alone.devices} >= {str(gpu.index), asked}
    for device in inventory.mig_devices:
        found = [edits[each] for strategy in STRATEGIES if (each := mig_name(device, strategy))]
        assert found.count(found[0]) == len(found)


@given(inventories.sound())
def test_all_is_everything_and_none_is_nothing(inventory: Inventory) -> None:
    try:
        devices = {device.name: device.container_edits for device in generate(inventory).devices}
    except CdiGenError:
        assume(False)
    nodes = set(devices["all"].device_nodes)
    assert not devices["none"].device_nodes
    assert nodes == {node for edits in devices.values() for node in edits.device_nodes}


@given(inventories.sound(), st.sets(inventories.capabilities))
def test_more_capabilities_bring_more(inventory: Inventory, wanted: set[str]) -> None:
    """Asking for a capability more never takes a file or a node away."""
    try:
        less = generate(inventory, Options(capabilities=tuple(sorted(wanted))))
        more = generate(inventory, Options(capabilities=(*sorted(wanted), "all")))
    except CdiGenError:
        assume(False)
    assert set(less.container_edits.mounts) <= set(more.container_edits.mounts)
    assert set(less.container_edits.device_nodes) <= set(more.container_edits.device_nodes)


@given(inventories.hostile() | inventories.sound(), inventories.options)
def test_explaining_never_fails(inventory: Inventory, options: Options) -> None:
    try:
        text = table(inventory, options)
    except CdiGenError:
        return
    assert text.count("\n") >= len(inventory.libraries) + len(inventory.ignored)
