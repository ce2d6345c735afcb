# SPDX-License-Identifier: Apache-2.0
"""Results of the tests with nodes, in docs/cluster-tests.json; and the page made of them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tests.host.looking import REPOSITORY
from tests.lab.kubernetes import nvidia_device_plugin, programs
from tests.lab.kubernetes.combinations import Combination

RESULTS = REPOSITORY / "docs/cluster-tests.json"
PAGE = REPOSITORY / "docs/cluster-tests.md"
TESTS = REPOSITORY / "tests/kubernetes"

WITHOUT_NODE = "no node"
"""The column of tests that enter none: they render the chart."""

Document = dict[str, Any]
"""``programs``: the combinations by their column; ``tests``: by module, test and column, the number
of cases by what became of them: ``passed``, ``failed`` or why they were skipped."""

EMPTY: Document = {"programs": {}, "tests": {}}

_HEAD = f"""\
<!-- Made by `make test-kubernetes` from docs/cluster-tests.json: do not edit. -->
# Tests in a cluster

`make test-kubernetes` runs every test below with real programs: Kubernetes' own and CRI-O built from their sources, containerd 2
from its sources and 1.7 of Debian 13, runc of Debian 13, etcd {programs.ETCD[1]}, helm {programs.HELM[1]}. Tests that compare with NVIDIA's programs
have the device plugin and gpu-feature-discovery {nvidia_device_plugin.VERSION}. The GPUs are those of fake hosts
(`tests/fakehost`): device nodes, driver files and NVML, without a driver behind them. [cluster.md](cluster.md) and
[gpu/README.md](gpu/README.md) have what was run on real GPUs.

Each row is a test, by its name; its module is the heading. **yes**: all its cases passed on the combination of the column. An
empty cell: the test is not for this combination.
"""


class Outcome(NamedTuple):
    """What became of a case of a test.

    Attributes:
        node_id: pytest's.
        outcome: ``passed``, ``failed`` or ``skipped``.
        reason: of a skip.
        combinations: what its nodes ran.
    """

    node_id: str
    outcome: str
    reason: str
    combinations: Sequence[Combination]


def load() -> Document:
    """Return the results as they were written last."""
    if RESULTS.exists():
        document: Document = json.loads(RESULTS.read_text("utf-8"))
        return document
    return EMPTY


def merged(document: Document, outcomes: Sequence[Outcome]) -> Document:
    """Return the document with the outcomes in the place of earlier ones of the same cells.

    Tests that no longer exist are left out, and programs that no test has.
    """
    columns = dict(document["programs"])
    of_run: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    for outcome in outcomes:
        path, _, name = outcome.node_id.partition("[")[0].partition("::")
        test = of_run.setdefault(path.rpartition("/")[2], {}).setdefault(name, {})
        keys = [column(combination) for combination in outcome.combinations]
        columns.update(zip(keys, map(list, outcome.combinations), strict=True))
        for key in keys or [WITHOUT_NODE]:
            cases = test.setdefault(key, {})
            answer = outcome.reason or outcome.outcome
            cases[answer] = cases.get(answer, 0) + 1
    tests = {}
    for module, names in _tests().items():
        before, after = document["tests"].get(module, {}), of_run.get(module, {})
        cells = {name: {**before.get(name, {}), **after.get(name, {})} for name in names}
        if kept := {name: answers for name, answers in cells.items() if answers}:
            tests[module] = kept
    used = {key for names in tests.values() for cells in names.values() for key in cells}
    return {"programs": {key: columns[key] for key in columns if key in used}, "tests": tests}


def column(combination: Combination) -> str:
    """Return the name of a combination's column: the first two numbers of the versions."""
    kubernetes, engine = map(_short, (combination.kubernetes, combination.engine_version))
    name = f"{combination.engine} {engine}"
    return f"{kubernetes}, {name}" if kubernetes else name


def write(document: Document) -> None:
    """Write both files."""
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(document), "utf-8")


def page(document: Document) -> str:
    """Return the page of these results."""
    reasons: list[str] = []
    combinations = {key: Combination(*value) for key, value in document["programs"].items()}
    keys = sorted(combinations, key=lambda key: _order(combinations[key]))
    versions = [
        (key, one.kubernetes or "none", f"{one.engine} {one.engine_version}", one.runc)
        for key, one in ((key, combinations[key]) for key in keys)
    ]
    parts = [_HEAD, _table(("column", "Kubernetes", "engine", "runc"), versions)]
    for module, tests in document["tests"].items():
        used = {key for cells in tests.values() for key in cells}
        columns = [key for key in (*keys, WITHOUT_NODE) if key in used]
        lines = [
            (_claim(name), *(_answer(cells.get(key, {}), reasons) for key in columns))
            for name, cells in tests.items()
        ]
        parts.append(f"## {_summary(module)}\n\n`tests/kubernetes/{module}`\n")
        parts.append(_table(("", *columns), lines))
    if reasons:
        notes = "".join(f"{number}. {reason}\n" for number, reason in enumerate(reasons, 1))
        parts.append(f"## Reasons\n\n{notes}")
    return "\n".join(parts)


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _order(combination: Combination) -> tuple[bool, tuple[int, ...], str, tuple[int, ...]]:
    """Newest first, nodes without Kubernetes last."""
    kubernetes, engine = (
        tuple(-int(number) for number in re.findall(r"\d+", version))
        for version in (combination.kubernetes, combination.engine_version)
    )
    return not kubernetes, kubernetes, combination.engine.lower(), engine


def _tests() -> dict[str, list[str]]:
    """Return the names of the test functions of each module, in their order."""
    return {
        path.name: [
            node.name
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        ]
        for path in sorted(TESTS.glob("test_*.py"))
    }


def _summary(module: str) -> str:
    """Return the first line of a module's docstring."""
    text = ast.get_docstring(ast.parse((TESTS / module).read_text("utf-8"))) or module
    return text.split("\n\n", maxsplit=1)[0].replace("\n", " ").removesuffix(".")


def _claim(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


def _answer(cases: dict[str, int], reasons: list[str]) -> str:
    if not cases:
        return ""
    total = sum(cases.values())
    answers = []
    for answer, number in sorted(cases.items()):
        if answer in {"passed", "failed"}:
            word = {"passed": "yes", "failed": "**no**"}[answer]
        else:
            if answer not in reasons:
                reasons.append(answer)
            word = f"not run [{reasons.index(answer) + 1}]"
        answers.append(word if number == total else f"{word} ({number} of {total})")
    return ", ".join(answers)


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    rows = [head, tuple("---" for _ in head), *map(tuple, lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
