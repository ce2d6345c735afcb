# SPDX-License-Identifier: Apache-2.0
"""Laws of injection, for every spec and every configuration."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from hypothesis import assume, given, reject
from hypothesis import strategies as st

from cdi_gen.cdi.inject import InjectError, inject
from cdi_gen.cdi.model import Spec
from tests.parity.injection import nodes, strategies

specs = strategies.specs
configs = strategies.configs


def injected(config: dict[str, Any], *applied: Spec, device: int = 0) -> dict[str, Any]:
    """The configuration with the named device of each spec, all in one request."""
    names = [f"{spec.kind}={spec.devices[device].name}" for spec in applied]
    try:
        return inject(config, names, *([spec] for spec in applied), look=nodes.told)
    except InjectError:  # some nodes are not there: another test's matter
        reject()


@given(configs, specs)
def test_neither_the_configuration_nor_what_is_unknown_in_it_changes(
    config: dict[str, Any], spec: Spec
) -> None:
    before = copy.deepcopy(config)
    edited = injected(config, spec)
    assert config == before
    parts = [(config.get(part), edited.get(part)) for part in ("process", "linux", "hooks")]
    for old, new in ((config, edited), *parts):
        if old:
            assert new is not None
            assert old.get("x.unknown") == new.get("x.unknown")
            assert old.keys() <= new.keys()


@given(configs, specs)
def test_no_device_changes_nothing(config: dict[str, Any], spec: Spec) -> None:
    assert inject(config, [], [spec]) == config


@given(configs, specs, specs)
def test_two_requests_are_one_after_the_other(
    config: dict[str, Any], first: Spec, second: Spec
) -> None:
    """Whichever engine or shim does half of it, the result is the same."""
    assume(first.kind != second.kind)
    once = injected(config, first, second)
    assert once == injected(injected(config, first), second)


@given(configs, specs)
def test_a_second_time_the_process_is_as_after_the_first(
    config: dict[str, Any], spec: Spec
) -> None:
    once = injected(config, spec)
    assert injected(once, spec).get("process") == once.get("process")


@given(configs, specs)
def test_parents_are_mounted_before_their_children(config: dict[str, Any], spec: Spec) -> None:
    edited = injected(config, spec)
    edits = (spec.container_edits, spec.devices[0].container_edits)
    assume(any(each.mounts for each in edits))
    places = [mount["destination"] for mount in edited["mounts"]]
    plain = [place for place in places if place in {"/a", "/a/b", "/b", "/b/c/d"}]
    for position, place in enumerate(plain):
        assert not any(place.startswith(f"{later}/") for later in plain[position + 1 :])


@given(configs, specs, st.randoms())
def test_the_order_of_fields_does_not_matter(
    config: dict[str, Any], spec: Spec, random: Random
) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = [*value]
            random.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert injected(shuffled(config), spec) == injected(config, spec)
