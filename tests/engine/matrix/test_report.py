# SPDX-License-Identifier: Apache-2.0
"""The page says of each cell what was found, and of whom it is said."""

from __future__ import annotations

import pytest

from tests.engine.matrix import cells, report
from tests.engine.matrix.cells import Cell
from tests.engine.matrix.limits import CONTAINER, NOTHING

CDI = "--device nvidia.com/gpu=0"
CRI = "CRI, field CDI_devices"
GPUS = "--gpus 0"

Kind = tuple[str, str, str]
ONE = ("crun", "rootful", "v1")
LIMITED = ("crun", "rootful", "v2")
"""Has a reason of its own in bookworm."""
OF_V1 = [(runtime, user, "v1") for runtime in ("crun", "runc") for user in ("rootful", "rootless")]


def kind(cell: Cell) -> Kind:
    return (cell.runtime, "rootless" if cell.user else "rootful", cell.groups)


@pytest.mark.parametrize(
    ("says", "suite", "found", "rest", "expected"),
    [
        (CDI, "trixie", {}, (), "yes"),
        (CDI, "trixie", {ONE: CONTAINER}, (), "yes; crun rootful v1: no"),
        (CDI, "trixie", {ONE: ()}, CONTAINER, "no; crun rootful v1: yes"),
        (CDI, "trixie", dict.fromkeys(OF_V1, CONTAINER), (), "yes; v1: no"),
        (GPUS, "bookworm", {LIMITED: CONTAINER}, NOTHING, "no [1]; crun rootful v2: no [2]"),
        (GPUS, "bookworm", {LIMITED: ()}, ("links",), "all but links [1]; crun rootful v2: yes"),
        (
            CRI,
            "bookworm",
            {("runc", "rootful", "v1"): NOTHING},
            CONTAINER,
            "v1: no [1]; v2: no [2]",
        ),
    ],
)
def test_an_answer(
    says: str,
    suite: str,
    found: dict[Kind, tuple[str, ...]],
    rest: tuple[str, ...],
    expected: str,
) -> None:
    """What is said without a condition is said first."""
    run = [
        each for each in cells.cells(quick=False) if (each.row.says, each.suite) == (says, suite)
    ]
    lacks = {str(cell): list(found.get(kind(cell), rest)) for cell in run}
    page = report.page({"cells": lacks, "versions": {}, "accepted": {}})
    line = next(line for line in page.splitlines() if line.startswith(f"| `{says}` |"))
    column = 2 + cells.SUITES.index(suite)
    assert line.split("|")[column].strip() == expected


def test_an_engine_has_the_columns_that_its_rows_are_run_in() -> None:
    page = report.page({"cells": {}, "versions": {"moby": {"docker": "29"}}, "accepted": {}})
    heads = [line for line in page.splitlines() if line.startswith("|  |")]
    assert "|  | bookworm: none | trixie: none | sid: none | moby: 29 |" in heads
    assert "|  | sid: none |" in heads
