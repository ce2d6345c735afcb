# SPDX-License-Identifier: Apache-2.0
"""No attack is forgotten: the table of cases, the tests that name them, and SECURITY.md agree."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.attack.cases import CASES, CVES, HERE, Case

REPOSITORY = Path(__file__).resolve().parents[2]
NUMBERS = {case.number: case for case in CASES}
NUMBER = re.compile(r"\bA\d\d\b")
NAMED = re.compile(r"\b(A\d\d) ([a-z0-9]+(?:-[a-z0-9]+)*)")
ROW = re.compile(r"\|\W*(CVE-\d{4}-\d+)\b(.*)\|\s*")


@cache
def docstrings(file: str) -> dict[str, str]:
    """Of each test function in a file: its docstring, under that of its module."""
    path = REPOSITORY / file
    if not path.is_file() or not path.name.startswith("test_"):
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    found = {node.name: ast.get_docstring(node) or "" for node in tests}
    if tests and not any(NUMBER.search(text) for text in found.values()):
        # A module about nothing else names its cases once.
        found[tests[0].name] = ast.get_docstring(tree) or ""
    return found


def missing(case: Case) -> list[str]:
    """Where the table says that the case is tested, and it is not."""
    gone = []
    for where in case.where:
        file, _, test = where.partition("::")
        texts = docstrings(file)
        if test:
            claimed = test in texts
        else:
            claimed = any(case.number in NUMBER.findall(text) for text in texts.values())
        if not claimed:
            gone.append(where)
    return gone


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_a_case_has_its_tests(case: Case) -> None:
    assert case.where
    assert not missing(case)


def test_every_number_in_a_docstring_is_a_case() -> None:
    """And where its name is said, it is that name."""
    for path in sorted((REPOSITORY / HERE).glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.Module):
                continue
            text = ast.get_docstring(node) or ""
            assert set(NUMBER.findall(text)) <= NUMBERS.keys(), path
            for number, name in NAMED.findall(text):
                assert NUMBERS[number].name == name, (path, number, name)


def test_numbers_and_names_are_unique() -> None:
    assert len(NUMBERS) == len(CASES) == len({case.name for case in CASES})
    assert list(NUMBERS) == sorted(NUMBERS)


@pytest.mark.parametrize(
    "case",
    [
        Case("A99", "no-such", (HERE + "test_links.py",)),
        Case("A12", "confd-abs-link", (HERE + "test_bombs.py",)),
        Case("A12", "confd-abs-link", (HERE + "test_gone.py",)),
        Case("A12", "confd-abs-link", (HERE + "images.py",)),
        Case("A10", "hook-path-trust", ("tests/cli/test_hook.py::test_gone",)),
    ],
    ids=lambda case: case.where[0],
)
def test_a_forgotten_case_is_noticed(case: Case) -> None:
    assert missing(case)


@pytest.mark.parametrize("cve", CVES)
def test_a_published_weakness_has_tests(cve: str) -> None:
    assert CVES[cve]
    assert set(CVES[cve]) <= NUMBERS.keys()


def rows(text: str) -> dict[str, tuple[str, ...]]:
    """The table of weaknesses in SECURITY.md: each, and the cases in its row."""
    found = {}
    for line in text.splitlines():
        if row := ROW.fullmatch(line):
            found[row[1]] = tuple(sorted(set(NUMBER.findall(row[2]))))
    return found


def test_security_md_has_the_same_table() -> None:
    path = REPOSITORY / "SECURITY.md"
    if not path.is_file():
        pytest.skip("there is no SECURITY.md yet")
    table = rows(path.read_text(encoding="utf-8"))
    assert {cve: table.get(cve) for cve in CVES} == CVES
    numbers = {number for row in table.values() for number in row}
    assert numbers <= NUMBERS.keys()


def test_a_row_is_read() -> None:
    text = "| CVE | x |\n|---|---|\n| **CVE-2024-0132** (9.0) | links, A27 and A14. | `A27` |\n"
    assert rows(text) == {"CVE-2024-0132": ("A14", "A27")}
