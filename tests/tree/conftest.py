# SPDX-License-Identifier: Apache-2.0
"""A small driver and its tree, in a mount namespace of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_base import syscalls
from tests.tree import small_driver


@pytest.fixture(autouse=True)
def own_mounts() -> Iterator[None]:
    """Move the test to a mount namespace of its own, which ends with the test."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = Path.cwd()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.make_mounts_private()
    yield
    syscalls.setns(namespace)
    os.close(namespace)
    os.chdir(here)


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
