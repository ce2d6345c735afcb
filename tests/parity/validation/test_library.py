# SPDX-License-Identifier: Apache-2.0
"""What we say a release of the standard's own library refuses, it refuses: no more, no less."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cdi_base.cdi.specification import LIBRARIES
from cdi_gen.cdi import validation, wire
from cdi_gen.cdi.problem import Problem
from tests.property import strategies as cdi
from tests.unit.cdi import documents
from tests.unit.cdi.public_specs import SPECS
from tests.unit.cdi.texts import TEXTS

from . import handwritten
from .oracle import Oracle

pytestmark = pytest.mark.network


@pytest.fixture(scope="module", params=LIBRARIES)
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(request.param, tmp_path_factory.mktemp("oracle"))


@cache
def _problems(text: str | bytes) -> tuple[Problem, ...]:
    return validation.check_text(text, with_schema=False)


def _refused_by_us(version: str, text: str | bytes) -> bool:
    return any(version in problem.refused_by for problem in _problems(text))


def _disagreements(oracle: Oracle, texts: Mapping[str, str | bytes]) -> list[str]:
    verdicts = oracle.verdicts(texts)
    return [
        f"{name}: {oracle.version} says {verdicts[name]}; we say {_problems(text)} of {text!r}"
        for name, text in texts.items()
        if _refused_by_us(oracle.version, text) != verdicts[name].startswith("refused")
    ]


def _table() -> dict[str, object]:
    changes = {
        f"{path} = {value!r}": documents.changed(path, value)
        for path, value, *_ in documents.FATAL + documents.PARTLY + documents.ACCEPTED
    }
    whole = documents.FATAL_WHOLE + documents.PARTLY_WHOLE + documents.ACCEPTED_WHOLE
    return changes | {name: document for name, document, *_ in whole}


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_the_table_of_documents(oracle: Oracle, dump: Callable[[Any], str]) -> None:
    assert _disagreements(oracle, {name: dump(doc) for name, doc in _table().items()}) == []


def test_the_table_of_texts(oracle: Oracle) -> None:
    assert _disagreements(oracle, TEXTS) == []


def test_public_specs(oracle: Oracle) -> None:
    verdicts = oracle.verdicts({name: spec.text for name, spec in SPECS.items()})
    refused = {name for name, verdict in verdicts.items() if verdict != "ok"}
    assert refused == {name for name, spec in SPECS.items() if oracle.version in spec.refused_by}


@cache
def _drawn(strategy: st.SearchStrategy[Any], examples: int) -> tuple[Any, ...]:
    """Examples that all releases are asked about, new ones at every run."""
    found = []

    @settings(max_examples=examples, database=None)
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return tuple(found)


@pytest.mark.parametrize("examples", [120, pytest.param(3000, marks=pytest.mark.nightly)])
def test_specs_as_people_write_them_are_judged_alike(oracle: Oracle, examples: int) -> None:
    found = _drawn(_HANDWRITTEN, examples)
    if oracle.version == LIBRARIES[-1]:
        refused = [each for each in found if _refused_by_us(oracle.version, each)]
        assert 5 < len(refused) < len(found) - 5, "a test of one verdict is none"
    assert _disagreements(oracle, {str(i): text for i, text in enumerate(found)}) == []


def test_specs_that_we_call_good_pass_however_they_are_written(oracle: Oracle) -> None:
    found = _drawn(cdi.good_specs, 60)
    texts = {f"json {i}": wire.dump(spec, "json") for i, spec in enumerate(found)}
    texts |= {f"yaml {i}": wire.dump(spec, "yaml") for i, spec in enumerate(found)}
    assert _disagreements(oracle, texts) == []
    if oracle.version == LIBRARIES[-1]:
        assert set(oracle.verdicts(texts).values()) == {"ok"}


@st.composite
def _without_sense(draw: st.DrawFn) -> dict[str, Any]:
    """A good document with one value that is another."""
    document = wire.to_document(draw(cdi.good_specs))
    place: Any = document
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or draw(st.booleans()):
            place[key] = draw(cdi.texts | st.integers() | st.just([]) | st.just({}))
            break
        place = place[key]
    return document


_HANDWRITTEN = handwritten.texts()
_CHANGED = _without_sense()


def test_specs_without_sense_are_judged_alike(oracle: Oracle) -> None:
    found = [*_drawn(cdi.specs, 60), *_drawn(_CHANGED, 100)]
    texts = {
        str(i): json.dumps(x) if isinstance(x, dict) else wire.dump(x) for i, x in enumerate(found)
    }
    # PyYAML and Go differ over characters that no spec has any use for.
    texts = {name: text for name, text in texts.items() if "\\ud" not in text}
    assert _disagreements(oracle, texts) == []


@pytest.mark.parametrize(
    ("version", "newest"),
    [
        ("0.5.4", "0.5.0"),
        ("0.6.2", "0.6.0"),
        ("0.7.2", "0.7.0"),
        ("0.8.1", "0.8.0"),
        ("1.0.1", "1.0.0"),
        ("1.1.0", "1.1.0"),
        ("1.1.1", "1.1.0"),
    ],
)
def test_older_libraries_read_what_consumers_json_says(
    tmp_path: Path, version: str, newest: str
) -> None:
    oracle = Oracle(version, tmp_path)
    versions = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"]
    plain = documents.changed("devices.0.name", "gpu")
    del plain["devices"][0]["containerEdits"]["deviceNodes"][0]["hostPath"]
    del plain["containerEdits"]["mounts"][0]["type"]
    texts = {v: json.dumps({**plain, "cdiVersion": v}) for v in versions}
    read = [v for v, verdict in oracle.verdicts(texts).items() if verdict == "ok"]
    assert read == versions[: versions.index(newest) + 1]
