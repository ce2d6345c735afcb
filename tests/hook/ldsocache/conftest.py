# SPDX-License-Identifier: Apache-2.0
"""Trees to build a cache for: real ones, and an empty one for unusual files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakehost.driver_packages import DRIVER_SETS, DriverRootUnavailableError, driver_root
from tests.hook.ldsocache.trees import planted
from tests.lab.engines import Lab


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of an image with empty directories."""
    tmp_path.chmod(0o755)
    planted(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tree(files_of: Callable[[str], Path], lab_of: Callable[[str], Lab]) -> Callable[[str], Path]:
    """A real root: an image of the lab, the root of a lab, or a root with an installed driver."""

    def tree(name: str) -> Path:
        if name in {"bookworm", "trixie"}:
            return lab_of(name).root
        if name in DRIVER_SETS:
            try:
                return driver_root(name)
            except DriverRootUnavailableError as error:
                pytest.skip(f"no driver root {name}: {error}")
        return files_of(name)

    return tree
