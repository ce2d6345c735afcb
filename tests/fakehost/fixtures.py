# SPDX-License-Identifier: Apache-2.0
"""Fixtures that give tests the fake hosts: ``pytest_plugins = ["tests.fakehost.fixtures"]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakehost import hosts
from tests.fakehost.driver_packages import DriverRootUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def host() -> Callable[[str], hosts.FakeHost]:
    """Give a named host to look at; it is shared and kept between runs, so write nothing to it."""

    def cached(name: str) -> hosts.FakeHost:
        try:
            return hosts.cached(name)
        except DriverRootUnavailableError as error:
            pytest.skip(f"no fake host {name}: {error}")

    return cached


@pytest.fixture
def own_host(tmp_path: Path) -> Callable[[str], hosts.FakeHost]:
    """Give a named host of the test's own.

    Its kernel side may be written to; a file of the driver is to be replaced, not written to,
    because it is a hard link into the cache.
    """

    def built(name: str) -> hosts.FakeHost:
        try:
            return hosts.build(name, tmp_path / name)
        except DriverRootUnavailableError as error:
            pytest.skip(f"no fake host {name}: {error}")

    return built
