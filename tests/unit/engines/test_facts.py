# SPDX-License-Identifier: Apache-2.0
"""The table of engines: every fact has a source and the type that the code reads."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from typing import Any

import pytest

import cdi_specs
from cdi_base import versions
from cdi_gen import engines
from cdi_gen.cdi import engine_table
from cdi_gen.engines import facts

FACTS: dict[str, Callable[[], Any]] = {
    "docker": facts.docker,
    "containerd": facts.containerd,
    "crio": facts.crio,
    "podman": facts.podman,
    "nerdctl": facts.nerdctl,
    "buildah": facts.buildah,
}


def document() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(cdi_specs.read_text("engines.json"))
    return table


def test_every_engine_of_the_command_line_is_in_the_table() -> None:
    assert {*engine_table.engines()} == {*engines.NAMES} == {*FACTS}


def test_every_fact_has_a_source_and_every_source_is_used() -> None:
    sources = document()["sources"]
    used = set()
    for name, engine in document()["engines"].items():
        rows = [*engine["facts"].values(), *engine["releases"], *engine.get("distributions", ())]
        for row in rows:
            assert row["sources"], (name, row)
            used.update(row["sources"])
    assert used == set(sources)
    assert all(sources.values())


@pytest.mark.parametrize("engine", FACTS)
def test_facts_have_the_types_that_the_code_reads(engine: str) -> None:
    values = FACTS[engine]()
    types = typing.get_type_hints(type(values))
    assert {*types} == {*document()["engines"][engine]["facts"]}
    for name, kind in types.items():
        value = getattr(values, name)
        assert isinstance(value, tuple if kind == tuple[str, ...] else str), name
        if name.endswith(("_since", "_until")):
            assert isinstance(value, str), name
            assert versions.parse(value), (name, value)


def test_distributions_have_the_types_that_the_code_reads() -> None:
    types = typing.get_type_hints(facts.Distribution)
    for distribution in facts.containerd_distributions():
        for name, kind in types.items():
            value = getattr(distribution, name)
            assert isinstance(value, tuple if kind == tuple[str, ...] else str), name


def test_cdi_of_crio_came_with_version_1_24() -> None:
    """cri-o#5571; the go.mod of 1.23.0 and of 1.23.1 has no CDI library."""
    assert facts.crio().cdi_since == "1.24"
