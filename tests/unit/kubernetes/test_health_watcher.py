# SPDX-License-Identifier: Apache-2.0
"""What is known of devices outlives changes of the host and of the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.health import watcher as module
from cdi_gen.kubernetes.health.judge import Change, Event
from cdi_gen.kubernetes.health.watcher import HealthWatcher
from cdi_gen.kubernetes.health.xids import Rules
from tests.unit.kubernetes.nodes import inventory

HGX = inventory("hgx-550-8gpu")
UUID = HGX.gpus[0].uuid or ""


class Process:
    """Stands for the process that watches NVML."""

    def __init__(self, *_: object) -> None:
        self.stopped = 0

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> HealthWatcher:
    monkeypatch.setattr(module, "HealthProcess", Process)
    watcher = HealthWatcher("/", Rules())
    changes(watcher)
    watcher._judge.event(Event(gpu_uuid=UUID, xid=79), 0)
    return watcher


def changes(health: HealthWatcher, host: Inventory = HGX) -> list[tuple[str, bool]]:
    """Watch a host, and return the changes that are said at once."""
    found: list[Change] = []
    reports: list[Finding] = []
    health.watch(host, found.append, reports.append)
    return [(change.uuid, change.healthy) for change in found]


def test_a_new_supervisor_is_told_what_is_unusable(health: HealthWatcher) -> None:
    assert changes(health) == [(UUID, False)]


def test_a_changed_host_changes_no_verdict(health: HealthWatcher) -> None:
    assert changes(health, replace(HGX, gpus=HGX.gpus[:4])) == [(UUID, False)]


def test_a_driver_that_was_loaded_again_resets_the_gpus(health: HealthWatcher) -> None:
    health.host_failed(NoDriverError("no driver is loaded", code="CDG-H001"))
    assert changes(health) == [(UUID, True)]


def test_a_driver_of_another_version_resets_the_gpus(health: HealthWatcher) -> None:
    driver = replace(HGX.require_driver(), version="550.999.01")
    assert changes(health, replace(HGX, driver=driver)) == [(UUID, True)]


def test_an_nvml_that_hangs_is_no_new_driver(health: HealthWatcher) -> None:
    health.host_failed(CdiGenError("NVML has not answered for 60 s", code="CDG-N107"))
    assert changes(health) == [(UUID, False)]
