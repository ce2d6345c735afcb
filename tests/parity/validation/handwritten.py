# SPDX-License-Identifier: Apache-2.0
"""Specs as people and other programs write them: the same document in any spelling YAML has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from cdi_gen.cdi import wire
from tests.property import strategies as cdi

RARE_FIELDS: dict[str, tuple[Any, ...]] = {
    "intelRdt": ({}, {"closID": "a", "enableCMT": True}, {"enableMBM": None}, {"schemata": []}),
    "annotations": ({}, {"a": None}, {"a": 5, "b": True}),
    "netDevices": ([], [{"hostInterfaceName": "a", "name": "b"}], [None]),
    "additionalGids": ([], [44], [None]),
    "env": ([], [None], ["A=b", None], ["A=b"]),
    "deviceNodes": ([], [None], [{"path": "/dev/a", "permissions": "none"}]),
    "devices": ([None],),
    "closID": ("/", "a"),
    "enableMonitoring": (True, False, None, "yes", "Yes", "true"),
    "name": ("on", "y", ".inf", 1.5, 10**25, 0),
}
WORDS = ("yes", "on", "n", "Off", "true", ".inf", "-.INF", ".nan", "NaN", "~", "0x10", "1_0", "1:0")
AROUND = (
    ("", ""),
    ("", "\n---\n"),
    ("", "\n---\nkind: a/b\n"),
    ("", "\n...\n}"),
    ("---\n", "\n--- {{{\n"),
    ("# a comment\n", " # another\n"),
    ("\ufeff", "\r\n"),
    ("%YAML 1.1\n---\n", ""),
    ("%YAML 1.2\n---\n", ""),
    ("", "\n}"),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A valid spec with a few changes that a person may make by hand."""
    is_old = draw(st.booleans())
    document = wire.to_document(draw(cdi.good_specs))
    # Older releases crash on a kind of single letters, which would hide all other results.
    document["kind"] = draw(st.sampled_from(("vendor.example/gpu", "edge.com/hardware")))
    if is_old:
        for json_object in _objects(document):
            for key in ("annotations", "intelRdt", "netDevices", "additionalGids"):
                json_object.pop(key, None)
        # Most specs are now valid in a version that older releases know.
        document["cdiVersion"] = "0.5.0"
        for device in document["devices"]:
            device["containerEdits"].setdefault("env", ["A=b"])
    for _ in range(draw(st.integers(0, 2))):
        _add_a_rare_field(draw, document)
    before, after = draw(st.sampled_from(AROUND)) if draw(st.booleans()) else ("", "")
    return before + _Writer(draw).text(document) + after


def _add_a_rare_field(draw: st.DrawFn, document: dict[str, Any]) -> None:
    places = list(_objects(document))
    place = draw(st.sampled_from(places))
    key = draw(st.sampled_from(sorted(RARE_FIELDS)))
    place[key] = draw(st.sampled_from(RARE_FIELDS[key]))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in list(value.values()):
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


class _Writer:
    """Flow style throughout, which has all that block style has but its indents."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def _rarely(self) -> bool:
        """Most things are ordinary, so that what is written is often still a spec."""
        return self._draw(st.integers(0, 19)) == 7

    def text(self, value: Any) -> str:
        if isinstance(value, dict):
            return self._mapping(list(value.items()))
        if isinstance(value, list):
            return "[" + ", ".join(map(self.text, value)) + "]"
        if isinstance(value, str):
            return self._scalar(value)
        return json.dumps(value)

    def _mapping(self, pairs: list[tuple[str, Any]]) -> str:
        written = [f"{self._key(key)}: {self.text(value)}" for key, value in pairs]
        if written and self._rarely():
            cut = self._draw(st.integers(0, len(written) - 1))
            merged = "{" + ", ".join(written[cut:]) + "}"
            if self._rarely():
                merged = f"[{merged}, {{}}]"
            kept = written if self._rarely() else written[:cut]
            written = [*kept, f"<<: {merged}"]
        return "{" + ", ".join(written) + "}"

    def _key(self, key: str) -> str:
        if self._rarely():
            key = self._draw(st.sampled_from((key.lower(), key.upper(), key.capitalize())))
        if self._rarely():
            return self._draw(st.sampled_from(("5", "~", "true", "'5'", "<<x")))
        return self._draw(st.sampled_from((json.dumps(key), json.dumps(key), key)))

    def _scalar(self, value: str) -> str:
        if self._rarely():
            return self._draw(st.sampled_from(WORDS))
        quoted = json.dumps(value, ensure_ascii=self._rarely())
        if self._rarely():
            quoted = quoted.replace("/", "\\/")
        if self._rarely():
            quoted = self._draw(st.sampled_from(("!!str ", "!local ", "!!binary "))) + quoted
        return quoted
