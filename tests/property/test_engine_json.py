# SPDX-License-Identifier: Apache-2.0
"""daemon.json: whatever it holds, one key is ours and every other byte its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cdi_gen.engines.change import record
from cdi_gen.engines.change.record import Record, digest
from cdi_gen.engines.change.reversal import revert
from cdi_gen.engines.docker import daemon_json
from cdi_gen.engines.plan import Runtime
from cdi_gen.engines.text import json_parser, json_text
from cdi_gen.engines.text.syntax import Path, Syntax

DOCKERS = (("features", "cdi"), ("cdi-spec-dirs",), ("runtimes", "nvidia"), ("default-runtime",))


RUNTIME = Runtime("nvidia", "/usr/bin/nvidia-container-runtime", default=True)


def back(
    before: str | None, made: str, syntax: Syntax, paths: list[Path], now: str | None = None
) -> str | None:
    """What becomes of a text, which others may have changed since, when ours is taken back."""
    written = Record().with_step(syntax, before, made, paths)
    text = made if now is None else now
    found = revert(text, written, syntax, before=(before,), keep=lambda *_: None)
    assert found.record == Record()
    return found.text


OWN = ("/etc/cdi", "/var/run/cdi", "/run/user/1000/cdi")


BLANK = st.sampled_from(["", " ", "\n", "\t", "\n    ", "\r\n  ", " \n\n"])


NUMBER = st.sampled_from(["0", "-0.0", "1.10", "1e3", "12E+2", str(2**70), "0.1000"])


STRING = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from([r'"a\/b"', r'"é\n"', '"\U0001f600"', r'"😀"']),
)


NAME = st.one_of(
    STRING,
    st.sampled_from(['"runtimes"', '"features"', '"cdi-spec-dirs"', '"default-runtime"', '"cdi"']),
    st.sampled_from(['"nvidia"', '"runc"', '"path"']),
)


def _object(
    values: st.SearchStrategy[str], blank: st.SearchStrategy[str] = BLANK
) -> st.SearchStrategy[str]:
    """An object as text, laid out in any way that JSON allows, no name twice."""
    member = st.tuples(blank, NAME, blank, blank, values, blank)
    return st.tuples(
        blank, st.lists(member, max_size=4, unique_by=lambda each: json.loads(each[1]))
    ).map(
        lambda both: (
            "{"
            + (",".join(f"{a}{n}{b}:{c}{v}{d}" for a, n, b, c, v, d in both[1]) or both[0])
            + "}"
        )
    )


VALUE = st.recursive(
    st.one_of(NUMBER, STRING, st.sampled_from(["true", "false", "null", "[]", "[ 1 , {} ]"])),
    _object,
    max_leaves=8,
)


JSON = st.tuples(BLANK, _object(VALUE), BLANK).map("".join)


@given(JSON)
def test_the_reader_takes_what_python_takes(text: str) -> None:
    assert json_parser.value(text) == json.loads(text)


@given(st.text(alphabet='{}[]",:\\ \n01-.eEtrufalsn\x00﻿é', max_size=14))
def test_the_reader_refuses_what_python_refuses(text: str) -> None:
    def twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def no(_: str) -> None:
        raise AssertionError

    try:
        expected = json.loads(text, object_pairs_hook=twice, parse_constant=no)
        assert isinstance(expected, dict)
    except (ValueError, AssertionError):
        with pytest.raises(json_parser.JSONTextError):
            json_parser.parse(text)
    else:
        assert json_parser.value(text) == expected


PLACES = st.lists(
    st.sampled_from(["runtimes", "features", "cdi", "nvidia", "other", "é"]), min_size=1, max_size=3
).map(tuple)


def without(said: Any, path: tuple[str, ...]) -> Any:
    """A value less what is at a path; and less the objects that the path leads through."""
    if not isinstance(said, dict):
        return said
    rest = dict(said)
    if path[0] in rest and path[1:] and isinstance(rest[path[0]], dict):
        rest[path[0]] = without(rest[path[0]], path[1:])
        if not rest[path[0]]:
            del rest[path[0]]
    else:
        rest.pop(path[0], None)
    return rest


@given(JSON, PLACES, VALUE)
def test_one_member_is_set_and_all_else_stays(
    text: str, path: tuple[str, ...], wanted: str
) -> None:
    try:
        made = json_text.with_member(text, path, wanted)
    except json_parser.JSONTextError:
        above = [json_text.find(text, path[:depth]) for depth in range(len(path))]
        assert any(each and not each.startswith("{") for each in above)
        return
    said: Any = json_parser.value(made)
    for name in path:
        said = said[name]
    assert said == json.loads(wanted)
    assert without(json_parser.value(made), path) == without(json_parser.value(text), path)
    assert json_text.with_member(made, path, wanted) == made


@given(JSON, PLACES, VALUE)
def test_a_new_member_is_an_insertion_and_goes_as_it_came(
    text: str, path: tuple[str, ...], wanted: str
) -> None:
    assume(json_text.find(text, path[:-1]) is not None and json_text.find(text, path) is None)
    try:
        made = json_text.with_member(text, path, wanted)
    except json_parser.JSONTextError:
        return
    start = next((i for i, (a, b) in enumerate(zip(text, made, strict=False)) if a != b), len(text))
    was_empty = not json.loads(json_text.find(text, path[:-1]) or "{}")
    if not was_empty:
        assert made.endswith(text[start:])
        assert json_text.without_member(made, path) == text
    assert json_parser.value(json_text.without_member(made, path)) == json_parser.value(text)


@given(JSON, st.booleans(), st.sampled_from([(), OWN]), st.sampled_from([None, RUNTIME]))
def test_docker_twice_is_once_and_back_is_as_it_was(
    text: str, cdi: bool, directories: tuple[str, ...], runtime: Runtime | None
) -> None:
    what: dict[str, Any] = {"cdi": cdi, "directories": directories, "runtime": runtime}
    try:
        made = daemon_json.edited(text, **what)
    except json_parser.JSONTextError:
        return
    assert made is not None
    assert daemon_json.edited(made, **what) == made
    assert back(text, made, json_text.JSON, [*DOCKERS]) == text
    new = daemon_json.edited(None, **what)
    assert new is None or back(None, new, json_text.JSON, [*DOCKERS]) is None


@given(JSON, JSON)
@example('{"runtimes": null, "features": null}', "{}")
def test_docker_back_takes_ours_alone_when_others_wrote_too(text: str, later: str) -> None:
    """A key that another program has added since then stays, and so do the keys from before.

    A null in the place of an object, which Docker reads as an empty one, is an empty one afterwards.
    """
    try:
        made = daemon_json.edited(text, cdi=True, directories=OWN, runtime=RUNTIME)
    except json_parser.JSONTextError:
        return
    assert made is not None
    assume("theirs" not in json_parser.value(text))
    now = json_text.with_member(made, ("theirs",), later)
    left = back(text, made, json_text.JSON, [*DOCKERS], now)
    assert left is not None
    before = {
        key: {} if value is None and key in {"runtimes", "features"} else value
        for key, value in json_parser.value(text).items()
    }
    assert json_parser.value(left) == before | {"theirs": json.loads(later)}


@given(JSON)
def test_what_a_file_has_that_we_did_not_write_stays(text: str) -> None:
    """Whatever it is called: a second time changes nothing, so there is no more to take back."""
    try:
        made = daemon_json.edited(text, cdi=True, directories=OWN, runtime=RUNTIME)
    except json_parser.JSONTextError:
        return
    assert made is not None
    again = Record().with_step(json_text.JSON, made, made, DOCKERS)
    assert again.steps[0].values == ()
    read = record.read(again.text().encode())
    assert read == again
    assert read.as_far_as(digest(made.encode())) == read
