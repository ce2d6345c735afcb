# SPDX-License-Identifier: Apache-2.0
"""Containers under attack: those of tests/hook, each with the oracles that watch it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.victim import Library, Victim

# A fixture is known where its name is.
from tests.hook.conftest import _as_root, compiled, library

__all__ = ["_as_root", "compiled", "library"]


@pytest.fixture
def container(tmp_path: Path) -> Victim:
    tmp_path.chmod(0o755)
    return Victim(tmp_path)


@pytest.fixture
def hostile(container: Victim, library: Library) -> Victim:
    """An image with something to do for every step; what is hostile in it is the test's."""
    container.furnish()
    library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
    library(container.root / "usr/local/cuda/compat/libcuda.so.999.1", "libcuda.so.1")
    return container


@pytest.fixture(params=["openat2", "walker"])
def both(request: pytest.FixtureRequest, hostile: Victim) -> Victim:
    """The same, its paths resolved by the kernel and by hand."""
    if request.param == "walker":
        hostile.altered(resolve__choose="lambda root: resolve.by_walking")
    return hostile


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A directory of configurations."""
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder
