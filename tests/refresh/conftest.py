# SPDX-License-Identifier: Apache-2.0
"""Machines with a fake host of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakehost import hosts
from tests.fakehost.gpus import RTX_4090, several
from tests.fakehost.hosts import FakeHost, Host
from tests.refresh.machine import DriverUpdate, Machine

# Of these GPUs procfs says everything, so that no test needs NVML for them.
HOSTS = {
    "535-flat": Host(driver="535-full", gpus=several(2, RTX_4090)),
    "550-flat": Host(driver="550-full", gpus=several(2, RTX_4090)),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/refresh" in str(item.path) and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def machine(
    tmp_path: Path, own_host: Callable[[str], FakeHost], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Machine]:
    """Give a machine by the name of its fake host."""
    for name, host in HOSTS.items():
        monkeypatch.setitem(hosts.HOSTS, name, host)

    def machine_of(name: str) -> Machine:
        tmp_path.chmod(0o755)
        return Machine(tmp_path, own_host(name))

    return machine_of


@pytest.fixture
def driver_update(
    machine: Callable[[str], Machine], own_host: Callable[[str], FakeHost]
) -> tuple[Machine, DriverUpdate]:
    """Give a machine with driver 535, and its update to 550."""
    updated = machine("535-flat")
    return updated, DriverUpdate(updated, own_host("550-flat"))


@pytest.fixture
def own_mounts(own_mounts: None) -> None:
    """Move the test to a mount namespace of its own, with a /run of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run"], check=True)
