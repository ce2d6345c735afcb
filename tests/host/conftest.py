# SPDX-License-Identifier: Apache-2.0
"""Small hosts for the tests of this directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.host import driver_tree
from tests.host.driver_tree import SmallHost


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., SmallHost]:
    """Give an empty host of a driver of Debian's."""

    def made(driver_set: str = "550-full", **changes: Any) -> SmallHost:
        try:
            tree = driver_tree.tree(driver_set)
        except DriverRootUnavailableError as error:
            pytest.skip(f"no driver {driver_set}: {error}")
        host = SmallHost(root=tmp_path, tree=tree, **changes)
        host.boot()
        return host

    return made
