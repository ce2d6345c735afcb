# SPDX-License-Identifier: Apache-2.0
"""A mount namespace of a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_base import syscalls


@pytest.fixture
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
