# SPDX-License-Identifier: Apache-2.0
"""The engines' programs, which read the configurations that cdi-gen writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.cache import LabUnavailableError
from tests.unit.engines import machine

from . import programs


@pytest.fixture(autouse=True)
def _no_records() -> None:
    """No test knows what another has written."""
    machine.RECORDS.clear()


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], Path]:
    """A program of a suite, unpacked and not installed."""
    impossible: dict[str, str] = {}

    def found(suite: str, name: str) -> Path:
        if suite not in impossible:
            try:
                return programs.find(suite, name)
            except LabUnavailableError as error:
                impossible[suite] = str(error)
        pytest.skip(f"no {name} of {suite}: {impossible[suite]}")

    return found
