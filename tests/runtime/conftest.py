# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the runtime shim, installed on a machine with a fake GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakehost.hosts import FakeHost
from tests.runtime.machine import SPEC, Bundle, Machine, as_root, note_calls
from tests.runtime.resolving import World


@pytest.fixture
def machine_of(tmp_path: Path, host: Callable[[str], FakeHost]) -> Callable[[str], Machine]:
    """Install the shim on a named fake host."""
    if not as_root():
        pytest.skip("a runtime that makes devices is run as root")
    tmp_path.chmod(0o755)

    def made(name: str) -> Machine:
        return Machine(tmp_path, host(name))

    return made


@pytest.fixture
def plain(tmp_path: Path) -> Machine:
    """The same without a GPU; it has a spec file, and a runtime that only notes how it is called."""
    if not as_root():
        pytest.skip("a mount namespace is root's")
    tmp_path.chmod(0o755)
    machine = Machine(tmp_path)
    machine.defines(SPEC)
    note_calls(tmp_path)
    machine.configure(runtime=f'runtimes = ["{tmp_path}/runc"]')
    return machine


@pytest.fixture
def machine(machine_of: Callable[[str], Machine]) -> Machine:
    """The same, on a host with one GPU."""
    return machine_of("550-1gpu")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    if not shutil.which("busybox"):
        pytest.skip("needs a static busybox")
    return Bundle(tmp_path / "bundle")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    tmp_path.chmod(0o755)
    return World(tmp_path, monkeypatch)
