# SPDX-License-Identifier: Apache-2.0
"""A small driver and its tree, in a mount namespace of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tree import small_driver


@pytest.fixture(autouse=True)
def _own_mounts(own_mounts: None) -> None:
    """Let every test mount what it likes."""


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A directory with the files of a driver."""
    folder = tmp_path / "host"
    small_driver.write(folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> str:
    """The directory of the trees; it does not exist yet."""
    return str(tmp_path / "run/cdi-gen/driver")
