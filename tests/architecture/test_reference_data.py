# SPDX-License-Identifier: Apache-2.0
"""Tests read reference data from the repository only, so that a clone proves what they prove."""

from __future__ import annotations

import ast
import re

import pytest

from tests.host.looking import REPOSITORY

REFERENCE = REPOSITORY / "tests/parity/reference"
ROOTS = {"REPOSITORY", "CHECKOUT"}
"""Names by which test modules call the root of the repository."""

MODULES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in sorted((REPOSITORY / "tests").rglob("*.py"))
}


def height(node: ast.AST, depth: int) -> int | None:
    """How many directories a path expression lies above its own module; None: another expression.

    ``depth`` is the height of the repository's root.
    """
    match node:
        case ast.Call(func=ast.Name(id="Path"), args=[ast.Name(id="__file__")]):
            return 0
        case ast.Name(id=name):
            return depth if name in ROOTS else None
        case ast.Call(func=ast.Attribute(value=base, attr="resolve" | "absolute")):
            return height(base, depth)
        case ast.Attribute(value=base, attr="parent"):
            steps = 1
        case ast.Subscript(
            value=ast.Attribute(value=base, attr="parents"), slice=ast.Constant(value=int(index))
        ):
            steps = index + 1
        case ast.BinOp(left=base, op=ast.Div(), right=ast.Constant(value=str(relative))):
            parts = relative.split("/")
            steps = parts.count("..") or -len(parts)
        case _:
            return None
    below = height(base, depth)
    return None if below is None else below + steps


def outside(name: str, text: str) -> list[int]:
    """Lines of a module that form a path above the repository's root."""
    if not re.search(r"\bparents?\b|/ *[\"']\.\.", text):
        return []
    depth = name.count("/") + 1
    heights = ((node, height(node, depth)) for node in ast.walk(ast.parse(text)))
    return [node.lineno for node, above in heights if above is not None and above > depth]  # type: ignore[attr-defined]


def test_no_test_looks_outside_the_repository() -> None:
    lines = {name: outside(name, text) for name, text in MODULES.items()}
    assert not {name: numbers for name, numbers in lines.items() if numbers}


@pytest.mark.parametrize(
    "expression",
    [
        "REPOSITORY.parent / 'shared'",
        "CHECKOUT / '../shared'",
        "Path(__file__).resolve().parents[3] / 'shared'",
        "Path(__file__).parents[2].parent",
        "Path(__file__).parent.parent.parent.parent",
    ],
)
def test_a_path_outside_is_seen(expression: str) -> None:
    assert outside("tests/unit/test_x.py", f"PLACE = {expression}") == [1]


@pytest.mark.parametrize("expression", ["REPOSITORY / 'tests'", "Path(__file__).parents[2] / 'x'"])
def test_a_path_inside_is_none(expression: str) -> None:
    assert not outside("tests/unit/test_x.py", f"PLACE = {expression}")


def test_each_reference_file_has_its_source_in_the_readme() -> None:
    listed = re.findall(r"^\| `(.+?)`", (REFERENCE / "README.md").read_text("utf-8"), re.MULTILINE)
    files = {path for path in REFERENCE.rglob("*") if path.is_file()} - {REFERENCE / "README.md"}
    assert files == {path for pattern in listed for path in REFERENCE.glob(pattern)}


def test_each_reference_file_is_read_by_a_test() -> None:
    """By its name or by a pattern for its directory."""
    texts = "".join(MODULES.values())
    for path in REFERENCE.iterdir():
        if path.name != "README.md":
            assert re.search(rf"[\"/]{re.escape(path.name)}[\"/]", texts), path
