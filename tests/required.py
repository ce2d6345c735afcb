# SPDX-License-Identifier: Apache-2.0
"""``REQUIRE=1``: a skipped test is a failure, except for the skips that are listed here.

Without it a test that cannot run on a machine is skipped with the reason. On CI, where every tool can
be installed, such a skip would hide that something is not tested any more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import NamedTuple, TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


class AllowedSkip(NamedTuple):
    """A skip that CI may have."""

    tests: str
    """Start of the tests' node ids."""
    reason: str
    """Regular expression for the whole reason of the skip."""
    why: str
    """Why no installation can change it."""


ALLOWED: tuple[AllowedSkip, ...] = ()


def is_allowed(node: str, reason: str) -> bool:
    return any(
        node.startswith(skip.tests) and re.fullmatch(skip.reason, reason) for skip in ALLOWED
    )


def judged(report: Report) -> Report:
    """The report; of a skip that is not allowed, as a failure."""
    if (
        os.environ.get("REQUIRE") == "1"
        and report.skipped
        and not hasattr(report, "wasxfail")
        and isinstance(report.longrepr, tuple)
    ):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not is_allowed(report.nodeid, reason):
            report.outcome = "failed"
            report.longrepr = (
                f"REQUIRE=1: skipped, and not in the list of tests/required.py: {reason}"
            )
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge what became of a test."""
    return judged((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge what became of a module: it may be skipped as a whole."""
    return judged((yield))
