# SPDX-License-Identifier: Apache-2.0
"""What the standard's own library made of recorded configurations: `injection.jsonl`.

The first line says which library, and which device nodes its host had. Each other line is a case:
`directories` (of specs), `config`, `devices`, and the `answer`: `config`, or the `unresolved` names,
or that it `failed`. Nothing of it is about this program: other implementations may use it too.

`make golden` asks the library again, where Go is; the questions stay. Without the file, it draws new
ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.lab.cache import LabUnavailableError
from tests.parity.injection import nodes, strategies
from tests.parity.injection.reference import Reference, pinned
from tests.parity.injection.table import CASES
from tests.parity.injection.test_reference import ours

FILE = Path(__file__).with_name("injection.jsonl")
DRAWN = 120


def recorded() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header, *cases = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return header, cases


def told_nodes() -> dict[str, Any]:
    return {
        path: {"type": node.type, "major": node.major, "minor": node.minor, "mode": node.mode}
        for path, node in nodes.NODES.items()
    }


def drawn() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    @settings(max_examples=DRAWN, database=None, derandomize=True)
    @given(strategies.questions())
    def collect(questions: list[dict[str, Any]]) -> None:
        usual = [each for each in questions[:3] if "config" in ours(each, nodes.told)]
        found.extend((usual or questions)[:1])

    collect()
    return [{"case": f"drawn {number}"} | each for number, each in enumerate(found)]


def answered(folder: Path) -> Iterator[dict[str, Any]]:
    """Every question with the library's answer; a configuration is first made canonical by it."""
    kept = recorded()[1] if FILE.exists() else drawn()
    questions = [{"case": name} | question for name, question in CASES.items()]
    questions += [question for question in kept if question["case"] not in CASES]
    reference = Reference()
    for asked in questions:
        question: dict[str, Any] = {
            key: asked[key] for key in ("case", "directories", "config", "devices")
        }
        question["config"] = reference.as_read(question["config"])
        moved = nodes.moved(question, nodes.PREFIX, f"{folder}/")
        answer = nodes.moved(reference.ask(moved), f"{folder}/", nodes.PREFIX)
        yield question | {"answer": answer}
    reference.close()


@pytest.mark.network
def test_the_recorded_answers_are_those_of_the_library(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """With ``--update-golden`` the answers are recorded again."""
    try:
        nodes.make(tmp_path)
        cases = list(answered(tmp_path))
    except (LabUnavailableError, PermissionError) as reason:
        pytest.skip(str(reason))
    header = {"library": pinned(), "nodes": told_nodes()}
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in (header, *cases)]
    if pytestconfig.getoption("--update-golden"):
        FILE.write_text("".join(lines), encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == "".join(lines)


def test_all_of_it_is_recorded() -> None:
    header, cases = recorded()
    assert header == {"library": pinned(), "nodes": told_nodes()}
    assert {case["case"] for case in cases} >= CASES.keys()
    assert len(cases) == len({case["case"] for case in cases})
    kinds = [*(key for case in cases for key in case["answer"])]
    assert all(kinds.count(key) >= 5 for key in ("config", "unresolved", "failed"))


def test_ours_is_the_same() -> None:
    """On any machine: the nodes are told."""
    for case in recorded()[1]:
        found = ours(case, nodes.told)
        wanted = case["answer"]
        if "failed" in wanted:
            assert found.keys() == wanted.keys(), case["case"]
        else:
            assert found == wanted, case["case"]
