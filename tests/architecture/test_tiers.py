# SPDX-License-Identifier: Apache-2.0
"""``make quick`` runs anywhere: unit tests use nothing that is built or fetched."""

from __future__ import annotations

import ast

import pytest

from tests.host.looking import REPOSITORY

BUILT = ("tests.lab", "tests.engine", "tests.parity")
"""Packages that build programs from Go's module proxy or unpack packages of Debian."""


def imported(text: str) -> set[str]:
    """The modules that a text imports, each by its whole name."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def built(text: str) -> list[str]:
    return [name for name in imported(text) if f"{name}.".startswith(tuple(f"{p}." for p in BUILT))]


def test_a_unit_test_uses_nothing_that_is_built() -> None:
    modules = (REPOSITORY / "tests/unit").rglob("*.py")
    found = {path.name: built(path.read_text(encoding="utf-8")) for path in modules}
    assert not {name: imports for name, imports in found.items() if imports}


@pytest.mark.parametrize(
    "text",
    ["from tests.lab import go", "import tests.engine.machine", "from tests.lab.go import x"],
)
def test_such_an_import_is_seen(text: str) -> None:
    assert built(text)
