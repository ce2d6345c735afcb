# SPDX-License-Identifier: Apache-2.0
"""What tests of engines' configurations share."""

from __future__ import annotations

import pytest

from . import machine


@pytest.fixture(autouse=True)
def _no_records() -> None:
    """No test knows what another has written."""
    machine.RECORDS.clear()
