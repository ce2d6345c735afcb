# SPDX-License-Identifier: Apache-2.0
"""The page of results says of each test what was found, and on which combination."""

from __future__ import annotations

from tests.kubernetes import results
from tests.kubernetes.results import Outcome
from tests.lab.kubernetes.combinations import Combination

NEW = Combination("1.37.2", "containerd", "2.2.9", "1.1.15")
OLD = Combination("1.34.4", "containerd", "1.7.24", "1.1.15")
ALONE = Combination("", "CRI-O", "1.34.0", "1.1.15")
TEST = "tests/kubernetes/test_lab.py::test_static_pod_runs_to_completion"


def row(*outcomes: Outcome) -> str:
    """Return the line of ``TEST``."""
    page = results.page(results.merged(results.EMPTY, outcomes))
    return next(line for line in page.splitlines() if line.startswith("| static pod"))


def test_the_page_is_made_from_the_results() -> None:
    assert results.PAGE.read_text("utf-8") == results.page(results.load())


def test_all_results_are_passes() -> None:
    """A test that failed or was skipped is mended, and run again, before its result is kept."""
    answers = {
        answer
        for tests in results.load()["tests"].values()
        for cells in tests.values()
        for cases in cells.values()
        for answer in cases
    }
    assert answers == {"passed"}


def test_newer_combinations_come_first() -> None:
    outcomes = [Outcome(f"{TEST}[{one}]", "passed", "", [one]) for one in (ALONE, OLD, NEW)]
    page = results.page(results.merged(results.EMPTY, outcomes))
    assert "|  | 1.37, containerd 2.2 | 1.34, containerd 1.7 | CRI-O 1.34 |\n" in page
    assert "| CRI-O 1.34 | none | CRI-O 1.34.0 | 1.1.15 |\n" in page


def test_a_case_that_failed_is_counted() -> None:
    outcomes = [Outcome(f"{TEST}[{number}]", "passed", "", [NEW]) for number in range(2)]
    failure = Outcome(f"{TEST}[2]", "failed", "", [NEW])
    assert (
        row(*outcomes, failure)
        == "| static pod runs to completion | **no** (1 of 3), yes (2 of 3) |"
    )


def test_a_skip_has_its_reason() -> None:
    outcome = Outcome(TEST, "skipped", "no Kubernetes: go is not here", [])
    assert row(outcome) == "| static pod runs to completion | not run [1] |"
    page = results.page(results.merged(results.EMPTY, [outcome]))
    assert page.endswith("## Reasons\n\n1. no Kubernetes: go is not here\n")


def test_results_of_before_stay_where_a_run_has_none() -> None:
    before = results.merged(results.EMPTY, [Outcome(TEST, "failed", "", [NEW, OLD])])
    after = results.merged(before, [Outcome(TEST, "passed", "", [OLD])])
    cells = after["tests"]["test_lab.py"]["test_static_pod_runs_to_completion"]
    assert cells == {results.column(NEW): {"failed": 1}, results.column(OLD): {"passed": 1}}


def test_a_test_that_no_longer_exists_is_left_out() -> None:
    outcome = Outcome("tests/kubernetes/test_lab.py::test_removed", "passed", "", [NEW])
    assert results.merged(results.EMPTY, [outcome]) == results.EMPTY
