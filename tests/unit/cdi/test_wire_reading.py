# SPDX-License-Identifier: Apache-2.0
"""Text that is read as a spec: what engines read, and errors with a place."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml

from cdi_base.cdi.fields import MAX_FAULTS
from cdi_base.cdi.words import WORDS, PlainWord
from cdi_gen.cdi import wire
from cdi_gen.cdi.problem import SpecError
from cdi_gen.errors import ExitCode

from . import documents


@pytest.fixture(params=["libyaml", "Python"])
def either_yaml(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML with libyaml, and as it is where that was not built in."""
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)


@pytest.mark.parametrize("escape", ["\\U00110000", "\\UFFFFFFFF", "\\uD800"])
def test_an_escape_of_no_character_is_refused(escape: str, either_yaml: None) -> None:
    # PyYAML without libyaml hands them to chr(), which raises ValueError or OverflowError.
    with pytest.raises(SpecError):
        wire.load(f'kind: "{escape}"')


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("containerEdits.mounts.0.hostPath", documents.ABSENT, "hostPath: missing"),
        ("cdiVersion", documents.ABSENT, ".cdiVersion: missing"),
        ("devices.0.name", {}, ".devices[0].name: must be text, not an object"),
        ("devices", {}, ".devices: must be a list, not an object"),
        ("devices.0", "a", ".devices[0]: must be an object, not text"),
        ("annotations", {"a": 1.5}, None),
        ("annotations", {"a": []}, ".annotations.a: must be text, not a list"),
        ("device", 1, ".device: unknown field; did you mean 'devices'?"),
        ("container_edits", {}, ".container_edits: unknown field; did you mean 'containerEdits'?"),
        ("zzz", 1, ".zzz: unknown field"),
        (
            "devices.0.containerEdits.deviceNodes.0.major",
            "195",
            ".devices[0].containerEdits.deviceNodes[0].major: must be a whole number, not text",
        ),
        (
            "devices.0.containerEdits.deviceNodes.0.uid",
            -1,
            ".devices[0].containerEdits.deviceNodes[0].uid: -1 is not between 0 and 4294967295",
        ),
        ("containerEdits.env", ["A=b", []], ".containerEdits.env[1]: must be text, not a list"),
        ("containerEdits.intelRdt", {"enableMonitoring": 1}, "must be true or false, not a number"),
        ("containerEdits.env", ["A=\ud800"], ".containerEdits.env[0]: is not Unicode text"),
    ],
)
def test_reading_says_where_and_what(path: str, value: object, problem: str | None) -> None:
    document = documents.changed(path, value)
    if problem is None:
        wire.from_document(document)
        return
    with pytest.raises(SpecError) as error:
        wire.from_document(document)
    assert problem in str(error.value)
    assert error.value.exit_code == ExitCode.INVALID_SPEC


def test_all_problems_are_reported_at_once_in_order() -> None:
    document = documents.changed("kind", documents.ABSENT)
    document["devices"].append({"name": 5, "containerEdits": {"env": [[]], "mounts": [{}]}})
    with pytest.raises(SpecError) as error:
        wire.from_document(document)
    assert [problem.path for problem in error.value.problems] == [
        ".kind",
        ".devices[1].containerEdits.env[0]",
        ".devices[1].containerEdits.mounts[0].hostPath",
        ".devices[1].containerEdits.mounts[0].containerPath",
    ]


def test_null_is_an_absent_field() -> None:
    document = documents.changed("containerEdits.env", None)
    assert wire.from_document(document).container_edits.env == ()


@pytest.mark.parametrize(("written", "read"), [(0, "0"), (True, "true"), (1.5, "1.5"), (-3, "-3")])
def test_a_number_where_text_belongs_is_taken_as_text(written: bool | float, read: str) -> None:
    assert wire.from_document(documents.changed("devices.0.name", written)).devices[0].name == read


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (b"\xff", "byte 0", "not UTF-8"),
        (b'{"kind": "\xe9"}', "byte 10", "not UTF-8"),
        ('{"kind": "a/b",\n "devices": [}', "line 2, column 14", ""),
        ("kind: a/b\ndevices: [\n", "line 3, column 1", ""),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4, column 3", "duplicate key 'c'"),
        ('{"a": 1,\n "a": 2}', "line 2, column 2", "duplicate key 'a'"),
        ("a: *b", "line 1, column 4", "alias *b refers to no anchor"),
        ("a: !!python/name:os.system b", "line 1, column 4", "is not allowed in a spec"),
        ("a: !!binary b", "line 1, column 4", "not base64 of UTF-8 text"),
        ("a: {<<: 1}", "line 1, column 9", "<< must name a mapping"),
        ('{"a": "b\\/"}', "line 1, column 7", "has \\/, which YAML does not know"),
        ("%YAML 1.2\n---\na: 1", "line 1, column 1", "engines read YAML 1.1"),
        ("? [a]\n: b", "line 1, column 3", "a key must be text"),
        ("a: " + "[" * 100, "line 1, column 67", "nested more than 64 deep"),
        ("a: \x07", "line 1, column 4", "a character that YAML does not allow"),
        (" " * (wire.MAX_SIZE + 1), "", "more than 4194304 bytes"),
    ],
)
def test_faults_of_the_text_have_a_line_and_a_column(
    text: bytes | str, place: str, message: str, either_yaml: None
) -> None:
    with pytest.raises(SpecError) as error:
        wire.load(text)
    assert error.value.problems[0].path == place
    assert message in error.value.problems[0].message


def test_a_byte_order_mark_is_skipped() -> None:
    text = json.dumps(documents.GOOD)
    assert wire.load("\ufeff" + text) == wire.load(b"\xef\xbb\xbf" + text.encode())


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("0", 0),
        ("0666", 438),
        ("0o666", 438),
        ("0xff", 255),
        ("0b11", 3),
        ("1_000", 1000),
        ("-7", -7),
        ("1.5", 1.5),
        ("12e3", 12000.0),
        ("true", True),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("1:0", "1:0"),
        ("2001-01-01", "2001-01-01"),
        (".inf", ".inf"),
        ("09", 9.0),
        ("-", "-"),
        ("0.5.0", "0.5.0"),
        ("9" * 31, "9" * 31),
        ("'0'", "0"),
        ("!!str 0", "0"),
        ("!!int '7'", 7),
    ],
)
def test_plain_scalars_are_what_they_are_to_engines(
    plain: str, value: bool | float | str | None, either_yaml: None
) -> None:
    read: Any = wire.parse(f"a: {plain}\nb: c" if plain != "-" else "a: -x\nb: c")
    assert read["a"] == (value if plain != "-" else "-x")
    assert type(read["a"]) is (PlainWord if value in WORDS else type(value))


def test_a_tab_is_named(either_yaml: None) -> None:
    with pytest.raises(SpecError, match=r"line 2, column 1: a tab, where YAML allows only spaces"):
        wire.load("devices:\n\t- name: a\n")


def test_anchors_are_followed() -> None:
    assert wire.parse("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


def test_a_small_text_that_stands_for_a_huge_document_is_refused_quickly() -> None:
    lines = ["e: &e [" + ",".join(["A=b"] * 2000) + "]", "cdiVersion: '0.3.0'", "kind: a/b"]
    lines += ["devices:"] + ["- {name: a, containerEdits: {env: *e}}"] * 2000
    start = time.perf_counter()
    with pytest.raises(SpecError, match="stands for more than"):
        wire.load("\n".join(lines))
    assert time.perf_counter() - start < 10


def test_the_number_of_problems_is_bounded() -> None:
    with pytest.raises(SpecError) as error:
        wire.load(json.dumps({str(n): n for n in range(100_000)}))
    assert len(error.value.problems) <= MAX_FAULTS + 1
    assert len(str(error.value)) < 5000
