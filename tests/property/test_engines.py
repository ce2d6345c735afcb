# SPDX-License-Identifier: Apache-2.0
"""TOML of containerd and CRI-O: whatever it holds, our settings come and go, and the rest stays."""

from __future__ import annotations

from typing import Any

import tomlkit
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cdi_gen.engines import crio
from cdi_gen.engines.containerd import drop_in, imports, runtimes, versions
from cdi_gen.engines.plan import Runtime
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_settings import with_settings
from cdi_gen.engines.text.toml_text import TOMLTextError
from tests.property.test_engine_json import RUNTIME, back, without

KEY = st.sampled_from(["a", "b c", "é", "cri", "engine", "runtimes", "nvidia", "enable_cdi"])
SCALAR = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(max_size=6),
    st.lists(st.integers(0, 9), max_size=3),
    st.sampled_from([0.5, -1e22]),
)
TABLE = st.recursive(
    st.dictionaries(KEY, SCALAR, max_size=3),
    lambda inner: st.dictionaries(KEY, st.one_of(SCALAR, inner), max_size=4),
    max_leaves=12,
)


ODD = (
    '\n[[many]]\nname = "x" # [x]\n[[many]]\nname = """\n[not.a.table]\na = 1\n"""\n',
    "\n['quo.ted'.\"é\"] # 'x'\nk = '''a\n[b]\n'''\nd = 1979-05-27 07:32:00 # [\n",
    '\n[dot]\na.b.c = 1\n d = {e = {f = "]#"}, g = [[1], # ]\n  []]}\n',
    '\r\n[crlf]\r\n"a" = [\r\n 1,\r\n]\r\n',
)
"""What a reader of lines would take for something else."""


@st.composite
def toml(draw: st.DrawFn) -> str:
    """A TOML text with comments and blanks where a person might put them."""
    text = tomlkit.dumps(draw(TABLE))
    lines = text.splitlines(keepends=True)
    for _ in range(draw(st.integers(0, 3))):
        extra = draw(st.sampled_from(["# a remark\n", "\n", "   # 'quoted' [brackets]\n"]))
        lines.insert(draw(st.integers(0, len(lines))), extra)
    if draw(st.booleans()):
        lines = [
            line.rstrip("\n") + "  # why\n"
            if draw(st.booleans()) and line.endswith("\n") and line.strip() and "#" not in line
            else line
            for line in lines
        ]
    made = "".join(lines) + draw(st.sampled_from(["", *ODD]))
    if draw(st.booleans()):
        made = made.removesuffix("\n")
    try:
        toml_text.parse(made)
    except TOMLTextError:  # a remark within a string of several lines
        assume(False)
    return made


Setting = tuple[tuple[str, ...], Any]
SETTINGS = st.lists(
    st.tuples(
        st.lists(KEY, min_size=1, max_size=3).map(tuple),
        st.one_of(SCALAR, st.dictionaries(KEY, SCALAR, min_size=1, max_size=2)),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each[0],
)


def _lines_but(text: str, path: tuple[str, ...]) -> list[str]:
    """The lines of a text that do not set the key at the end of a path."""
    own = (path[-1], tomlkit.key(path[-1]).as_string())
    return [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not line.strip().startswith(own)
    ]


@settings(max_examples=200)
@given(toml(), SETTINGS.map(lambda found: found[0]))
def test_one_key_is_set_and_no_line_of_others_is_lost(text: str, setting: Setting) -> None:
    path, value = setting
    try:
        made = toml_text.with_value(text, path, value)
    except TOMLTextError:
        return  # said, and nothing is changed
    assert toml_text.get(toml_text.parse(made), path) == value
    assert toml_text.with_value(made, path, value) == made
    if toml_text.get(toml_text.parse(text), path) is None:
        left = iter([line.strip() for line in made.splitlines()])
        lost = [line for line in _lines_but(text, path) if line not in left]
        assert not lost
        again = toml_text.parse(toml_text.without(made, path))
        was = toml_text.parse(text)
        assert _pruned(again) == _pruned(was)


def _pruned(said: Any) -> Any:
    """Less the tables that say nothing."""
    if not isinstance(said, dict):
        return said
    inner = {name: _pruned(each) for name, each in said.items()}
    return {name: each for name, each in inner.items() if each != {}}


@given(toml(), SETTINGS)
def test_settings_twice_are_once_and_back_is_as_it_was(text: str, ours: list[Setting]) -> None:
    try:
        made = with_settings(text, ours)
        again = with_settings(made, ours)
    except TOMLTextError:
        return
    assert made is not None
    said = toml_text.parse(made)
    if any(toml_text.get(said, path) != value for path, value in ours):
        return  # one of the settings is within another
    assert again == made
    assert back(text, made, toml_text.TOML, [path for path, _ in ours]) == text


@given(toml(), SETTINGS)
def test_settings_back_when_others_wrote_too(text: str, ours: list[Setting]) -> None:
    """Every value is what it was; a table that ours has come into stays, if it was there."""
    try:
        made = with_settings(text, ours)
        assert made is not None
        now = toml_text.with_value(made, ("theirs",), 1)
        left = back(text, made, toml_text.TOML, [path for path, _ in ours], now)
    except TOMLTextError:
        return
    said = toml_text.parse(made)
    paths = [path for path, _ in ours]
    if any(toml_text.get(said, path) != value for path, value in ours) or any(
        one[: len(other)] == other for one in paths for other in paths if one != other
    ):
        return  # one of the settings is within another
    assert left is not None
    assert _pruned(toml_text.parse(left)) == _pruned(toml_text.parse(text)) | {"theirs": 1}


PATTERNS = st.sampled_from(
    ["/etc/containerd/conf.d/*.toml", "/else/*.toml", "conf.d/*.toml", "conf.d/99-nvidia.toml"]
)
DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"


@given(toml(), st.one_of(st.none(), st.lists(PATTERNS, max_size=2)), st.booleans())
def test_an_import_twice_is_once_and_back_is_as_it_was(
    text: str, patterns: list[str] | None, alone: bool
) -> None:
    if patterns is not None:
        text = toml_text.with_value(text, ("imports",), patterns)
    if text.strip():
        text = toml_text.with_value(text, ("version",), 2)
    where: dict[str, Any] = {"directory": "/etc/containerd", "file_version": 2, "alone": alone}
    made = imports.with_import(text, DROP_IN, **where)
    found = toml_text.parse(made)["imports"]
    assert sum(imports.import_matches(each, DROP_IN, "/etc/containerd") for each in found) >= 1
    assert imports.with_import(made, DROP_IN, **where) == made
    paths: list[Path] = [("imports",), ("version",)]
    assert back(text, made, toml_text.TOML, paths) == text
    others = toml_text.with_item(made, ("imports",), "/theirs/*.toml")
    left = back(text, made, toml_text.TOML, paths, others)
    assert left is not None
    was = toml_text.parse(text).get("imports") or []
    assert toml_text.parse(left)["imports"] == [*was, "/theirs/*.toml"]


@given(TABLE, st.booleans(), st.sampled_from([None, RUNTIME]), st.sampled_from([1, 2, 3]))
def test_a_drop_in_of_containerd_keeps_all_and_widens_nothing(
    table: dict[str, Any],
    cdi: bool,
    runtime: Runtime | None,
    version: int,
) -> None:
    """A34."""
    ours = runtimes.plugin_settings(table, cdi=cdi, runtime=runtime, file_version=version)
    made = drop_in.drop_in_text(None, table, ours, file_version=version, carry=True)
    if made is None:
        assert not ours
        return
    plugin = toml_text.parse(made)["plugins"][versions.plugin_of(version)]
    for path, value in ours:
        assert toml_text.get(plugin, path) == value
        plugin = without(plugin, path)
    rest = table
    for path, _ in ours:
        rest = without(rest, path)
    assert _pruned(plugin) == _pruned(rest)
    assert "cdi.k8s.io" not in made
    assert drop_in.drop_in_text(made, table, ours, file_version=version, carry=True) == made


@given(TABLE)
def test_a_runtime_of_crio_is_as_the_default_one(
    entry: dict[str, Any],
) -> None:
    """A34."""
    said = {"default_runtime": "x", "runtimes": {"x": entry}}
    ((_, made), _) = crio.runtime_settings(said, RUNTIME)
    changed = ("runtime_path", "runtime_type", "allowed_annotations")
    assert {key: made[key] for key in made if key not in changed} == {
        key: entry[key] for key in entry if key not in changed
    }
