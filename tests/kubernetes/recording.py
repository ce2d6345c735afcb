# SPDX-License-Identifier: Apache-2.0
"""Plugins of pytest that keep what each test with a node found, and on which combination."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.kubernetes import results
from tests.kubernetes.results import Outcome
from tests.lab.kubernetes.combinations import Combination
from tests.lab.kubernetes.fixtures import ENTERED

_PROPERTY = "combinations"


class Recorder:
    """Gives each test the combinations of its nodes, as a property of its report."""

    def __init__(self, config: pytest.Config) -> None:
        self._entered: list[Combination] = []
        self._of_fixture: dict[pytest.FixtureDef[Any], list[Combination]] = {}
        config.stash[ENTERED] = self._entered

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        """Keep which nodes a fixture enters."""
        before = len(self._entered)
        value = yield
        self._of_fixture[fixturedef] = self._entered[before:]
        return value

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Generator[None, None, None]:
        """Keep the nodes of a test's fixtures, and those that it enters itself."""
        definitions = item._fixtureinfo.name2fixturedefs
        combinations = [
            combination
            for name in item.fixturenames
            if name in definitions
            for combination in self._of_fixture.get(definitions[name][-1], ())
        ]
        before = len(self._entered)
        try:
            return (yield)
        finally:
            combinations += self._entered[before:]
            # Reports pass between processes, which exchange lists but no tuples of ours.
            unique = [list(combination) for combination in sorted(set(combinations))]
            item.user_properties.append((_PROPERTY, unique))


class Writer:
    """Collects the reports of all processes of a run, and writes the page at its end."""

    def __init__(self, config: pytest.Config) -> None:
        self._outcomes: list[Outcome] = []
        self._is_whole = config.args == ["tests/kubernetes"] and not config.getoption("keyword")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what became of a test."""
        if report.when != "call" and report.passed:
            return
        combinations = dict(report.user_properties).get(_PROPERTY, [])
        assert isinstance(combinations, list)
        reason = ""
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        self._outcomes.append(
            Outcome(
                report.nodeid, report.outcome, reason, [Combination(*one) for one in combinations]
            )
        )

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the results; those of before stay for tests that the run did not reach."""
        is_complete = self._is_whole and exitstatus in {
            pytest.ExitCode.OK,
            pytest.ExitCode.TESTS_FAILED,
        }
        before = results.EMPTY if is_complete else results.load()
        results.write(results.merged(before, self._outcomes))
