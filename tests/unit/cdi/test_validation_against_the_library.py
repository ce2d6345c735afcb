# SPDX-License-Identifier: Apache-2.0
"""What we call fatal is what the standard's own library refuses: no more, no less."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cdi_gen.cdi import validation, wire
from tests.property import strategies as cdi

from . import documents
from .oracle import Oracle

NEWEST = "v1.1.1"


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    return Oracle(NEWEST, tmp_path_factory.mktemp("oracle"))


def _refused_by_us(text: str) -> bool:
    return any(problem.severity == "fatal" for problem in validation.check_text(text))


def _disagreements(oracle: Oracle, texts: dict[str, str]) -> list[str]:
    verdicts = oracle.verdicts(texts)
    return [
        f"{name}: the library says {verdicts[name]}; we say {validation.check_text(text)}"
        for name, text in texts.items()
        if _refused_by_us(text) != verdicts[name].startswith("refused")
    ]


def _table() -> dict[str, object]:
    changes = {
        f"{path} = {value!r}": documents.changed(path, value)
        for path, value in documents.FATAL + documents.ACCEPTED
    }
    return changes | dict(documents.FATAL_WHOLE + documents.ACCEPTED_WHOLE)


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_the_table_of_documents(oracle, dump):
    assert _disagreements(oracle, {name: dump(doc) for name, doc in _table().items()}) == []


TEXTS = {
    "empty": "",
    "only a comment": "# nothing",
    "byte order mark": "\ufeff" + json.dumps(documents.GOOD),
    "key twice": json.dumps(documents.GOOD).replace('"kind"', '"cdiVersion": "0.5.0", "kind"', 1),
    "trailing comma": json.dumps(documents.GOOD)[:-1] + ",}",
    "single quotes": json.dumps(documents.GOOD).replace('"', "'"),
    "cut off": json.dumps(documents.GOOD)[:-20],
    "tabs": json.dumps(documents.GOOD, indent="\t"),
    "octal": yaml.safe_dump(documents.GOOD).replace("438", "0666"),
    "new octal": yaml.safe_dump(documents.GOOD).replace("438", "0o666"),
    "hexadecimal": yaml.safe_dump(documents.GOOD).replace("195", "0xc3"),
    "underscore": yaml.safe_dump(documents.GOOD).replace("195", "1_95"),
    "anchors": yaml.safe_dump(documents.GOOD)
    .replace("hookName: c", "hookName: &a c")
    .replace("- hook\n", "- *a\n"),
    "unknown anchor": yaml.safe_dump(documents.GOOD).replace("- hook\n", "- *a\n"),
    "explicit text": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: !!str 0"),
    "name on": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: on"),
    "name a date": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: 2001-01-01"),
    "name 1:0": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: 1:0"),
    "name null": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: ~"),
    "half of a pair": json.dumps(documents.changed("containerEdits.env", ["A=\ud83d"])),
}


def test_the_table_of_texts(oracle):
    assert _disagreements(oracle, TEXTS) == []


def test_specs_that_we_call_good_pass_however_they_are_written(oracle):
    found = []

    @settings(max_examples=150, database=None)
    @given(cdi.good_specs)
    def collect(spec):
        found.append(spec)

    collect()
    texts = {f"json {i}": wire.dump(spec, "json") for i, spec in enumerate(found)}
    texts |= {f"yaml {i}": wire.dump(spec, "yaml") for i, spec in enumerate(found)}
    refused = {n: v for n, v in oracle.verdicts(texts).items() if v != "ok"}
    assert refused == {}


def test_specs_without_sense_are_judged_alike(oracle):
    found = []

    @settings(max_examples=150, database=None)
    @given(cdi.specs, cdi.good_specs, st.data())
    def collect(senseless, good, data):
        found.append(senseless)
        document = wire.to_document(good)
        place = document
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                place[key] = data.draw(cdi.texts | st.integers() | st.just([]) | st.just({}))
                break
            place = place[key]
        found.append(document)

    collect()
    texts = {
        str(i): json.dumps(x) if isinstance(x, dict) else wire.dump(x) for i, x in enumerate(found)
    }
    # PyYAML and Go differ over characters that no spec has any use for.
    texts = {name: text for name, text in texts.items() if "\\ud" not in text}
    assert _disagreements(oracle, texts) == []


@pytest.mark.parametrize(
    ("version", "newest"),
    [("v0.6.2", "0.6.0"), ("v0.7.2", "0.7.0"), ("v0.8.1", "0.8.0"), ("v1.0.1", "1.0.0")],
)
def test_older_libraries_read_what_consumers_json_says(tmp_path, version, newest):
    oracle = Oracle(version, tmp_path)
    versions = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"]
    plain = documents.changed("devices.0.name", "gpu")
    del plain["devices"][0]["containerEdits"]["deviceNodes"][0]["hostPath"]
    del plain["containerEdits"]["mounts"][0]["type"]
    texts = {v: json.dumps({**plain, "cdiVersion": v}) for v in versions}
    read = [v for v, verdict in oracle.verdicts(texts).items() if verdict == "ok"]
    assert read == versions[: versions.index(newest) + 1]
