# SPDX-License-Identifier: Apache-2.0
"""Driver roots and fake hosts are built once, kept between runs, and never taken half built."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.fakehost import driver_packages, hosts, nvml_mock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    GetHost = Callable[[str], hosts.FakeHost]
pytest_plugins = ["tests.fakehost.fixtures"]
pytestmark = pytest.mark.host


def test_building_leaves_the_driver_root_as_it_was(own_host: GetHost) -> None:
    fake = own_host("550-debian")
    cached = driver_packages.driver_root("550-full")
    real = cached / fake.nvml.relative_to(fake.root)
    assert b"NVML_MOCK_HOST" in fake.nvml.read_bytes()
    assert b"NVML_MOCK_HOST" not in real.read_bytes()
    assert not real.with_name(nvml_mock.DESCRIPTION).exists()
    assert list((cached / "dev").iterdir()) == []


def test_a_machine_that_cannot_build_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(driver_packages.DriverRootUnavailableError, match="needs root"):
        driver_packages.driver_root("550-full")


def test_a_failed_build_is_not_taken_for_a_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_driver_set: driver_packages.DriverSet, into: Path) -> None:
        into.mkdir()
        raise driver_packages.DriverRootUnavailableError("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(driver_packages, "_build", fail)
    for _ in range(2):
        with pytest.raises(driver_packages.DriverRootUnavailableError, match="no network"):
            driver_packages.driver_root("550-server")


def test_a_build_that_another_checkout_uses_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_packages, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(hosts, "build", lambda _name, directory: directory.mkdir())
    monkeypatch.setattr(hosts, "describe", lambda _name, root: root)
    used, unused = (tmp_path / f"hosts/550-1gpu-{letter * 12}" for letter in "ab")
    for root, days in (used, 0.9), (unused, 1.1):
        root.mkdir(parents=True)
        seconds = time.time() - days * 24 * 3600
        stamp = root.with_name(f"{root.name}.used")
        stamp.touch()
        os.utime(stamp, (seconds, seconds))
    added: object = hosts.cached("550-1gpu")
    assert {*tmp_path.glob("hosts/550-1gpu-" + "?" * 12)} == {used, added}
