# SPDX-License-Identifier: Apache-2.0
"""Every error and every warning has a code of the table, and ``docs/findings.md`` is made from it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

import pytest

from cdi_gen.findings import areas, explanations
from tests.architecture.test_layers import SOURCES
from tests.host.looking import REPOSITORY
from tools.findings import page

CODE = re.compile(r"CDG-[A-Z]\d{3}")
ERRORS = {"CdiGenError", "HookError"}
"""The errors that are printed. Every class below them is found by its name."""

VALUES = {
    "Finding",
    "Missing",
    "UnusableDevice",
    "Ignored",
    "StaleNode",
    "Fault",
    "Problem",
    "warning",
    "say",
}
"""What else has a code: findings, the inventory's records, faults of specs, ``console.warning`` and
``process.say``."""

POSITIONAL = {"Finding": 1, "say": 2}
"""Where the code may be one of the first so many arguments."""

TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
USED = {
    code: name
    for name, path in SOURCES.items()
    for code in CODE.findall(path.read_text(encoding="utf-8"))
}


def called(node: ast.Call) -> str:
    """The last name of what is called; empty for click's own errors."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) != "click":
        return node.func.attr
    return ""


def printed_errors(trees: dict[str, ast.Module]) -> tuple[set[str], set[str]]:
    """The classes of errors that are printed, and those of them that have a code of their own."""
    bases = {
        node.name: ({ast.unparse(base).rpartition(".")[2] for base in node.bases}, node)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    classes = set(ERRORS)
    while more := {name for name, (above, _) in bases.items() if above & classes} - classes:
        classes |= more
    coded = {name for name in classes if name in bases and has_own_code(bases[name][1])}
    while more := {name for name in classes - coded if name in bases and bases[name][0] & coded}:
        coded |= more
    return classes, coded


def has_own_code(node: ast.ClassDef) -> bool:
    return any(
        isinstance(each, ast.Assign)
        and ast.unparse(each.targets[0]) == "code"
        and CODE.fullmatch(str(getattr(each.value, "value", "")))
        for each in node.body
    )


def without_code(tree: ast.Module, errors: set[str]) -> Iterator[int]:
    """The lines of calls that make an error or a record and give it no code."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or called(node) not in errors | VALUES:
            continue
        keywords = {keyword.arg for keyword in node.keywords}
        positional = POSITIONAL.get(called(node))
        if "code" not in keywords and (positional is None or len(node.args) < positional):
            yield node.lineno


def half(name: str) -> str:
    """The library or the programs of ``hooks/``: both have classes of the same name."""
    return "cdi_gen/" if name.startswith("cdi_gen/") else "hooks/"


CODELESS: dict[str, set[str]] = {}
"""The classes of errors that have no code of their own."""
for HALF in ("cdi_gen/", "hooks/"):
    classes, coded = printed_errors(
        {name: tree for name, tree in TREES.items() if half(name) == HALF}
    )
    CODELESS[HALF] = classes - coded


def faults(name: str) -> list[int]:
    return [*without_code(TREES[name], CODELESS[half(name)])]


@pytest.mark.parametrize("name", SOURCES)
def test_each_error_and_each_warning_has_a_code(name: str) -> None:
    assert not faults(name)


@pytest.mark.parametrize(
    "text",
    [
        'raise CdiGenError("no", hint="do")',
        'return errors.HookError("no")',
        'process.say("odd")',
        'console.warning("odd")',
        'self.left.append(Ignored(path="/x", reason="odd"))',
    ],
)
def test_a_missing_code_is_seen(text: str) -> None:
    function = f"def f():\n    {text}"
    assert [*without_code(ast.parse(function), ERRORS)]


def test_a_class_gives_its_code_to_classes_below() -> None:
    text = (
        "class A(HookError):\n    code = 'CDG-X001'\nclass B(A): pass\nclass C(HookError): pass\n"
    )
    classes, coded = printed_errors({"x.py": ast.parse(text)})
    assert ({"A", "B", "C"} <= classes, coded) == (True, {"A", "B"})


def test_each_code_in_use_is_in_the_table() -> None:
    unknown = {code: name for code, name in USED.items() if code not in explanations()}
    assert not unknown


def test_each_code_of_the_table_is_in_use() -> None:
    unused = sorted(explanations().keys() - USED.keys())
    assert not unused


def test_the_table_is_complete_and_in_order() -> None:
    table = explanations()
    order = [(list(areas()).index(entry.area), code) for code, entry in table.items()]
    assert order == sorted(order)
    for code, entry in table.items():
        assert CODE.fullmatch(code)
        assert entry.severity in {"debug", "info", "warning", "error"}
        assert entry.title
        assert entry.title[-1] not in ".;"
        for text in (entry.meaning, entry.fix, entry.cause or "."):
            assert text.endswith("."), (code, text)


def test_the_table_has_no_code_twice() -> None:
    """JSON readers would keep the last one."""

    def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys))
        return dict(pairs)

    path = REPOSITORY / "specs/cdi_specs/findings.json"
    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=distinct)


def test_the_page_is_made_from_the_table(request: pytest.FixtureRequest) -> None:
    """``make golden`` writes it."""
    path = REPOSITORY / "docs/findings.md"
    if request.config.getoption("--update-golden"):
        path.write_text(page(), encoding="utf-8")
    is_current = path.read_text(encoding="utf-8") == page()
    assert is_current, "docs/findings.md is not made from the table of codes; run: make golden"
