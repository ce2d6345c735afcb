# SPDX-License-Identifier: Apache-2.0
"""Watches the health of a host's devices through all changes of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import Driver, Inventory
from cdi_gen.kubernetes.health.judge import Change, Judge
from cdi_gen.kubernetes.health.process import HealthProcess, watched
from cdi_gen.kubernetes.health.xids import Rules
from cdi_gen.kubernetes.reports import Report

NO_DRIVER = "CDG-H001"
"""The code of the error that no driver is loaded."""

Changed = Callable[[Change], None]


class Health(Protocol):
    """The health of devices as the supervisor sees it."""

    def watch(self, inventory: Inventory, changed: Changed, report: Report) -> None:
        """Watch these devices from now on.

        Args:
            inventory: the host.
            changed: is called with each change, from a thread.
            report: prints a finding.
        """

    def host_failed(self, error: CdiGenError) -> None:
        """Take note that the host could not be examined."""

    def stop(self) -> None:
        """End the watching."""


class Unwatched:
    """No health checks."""

    def watch(self, inventory: Inventory, changed: Changed, report: Report) -> None:
        """Watch nothing."""

    def host_failed(self, error: CdiGenError) -> None:
        """Take no note."""

    def stop(self) -> None:
        """End nothing."""


class HealthWatcher:
    """Runs the process that watches the GPUs; what it knows of a device outlives the process.

    Args:
        host_root: the path of the host's ``/`` for this process.
        rules: which Xids count.
    """

    def __init__(self, host_root: str, rules: Rules) -> None:
        self._host_root = host_root
        self._judge = Judge((), rules)
        self._process: HealthProcess | None = None
        self._driver: Driver | None = None
        """The driver that is loaded; None if none is, or before the first look."""

    def watch(self, inventory: Inventory, changed: Changed, report: Report) -> None:
        """Start the process for these devices; a driver that was loaded again has reset them."""
        self.stop()
        if inventory.driver != self._driver:
            self._driver = inventory.driver
            for change in self._judge.driver_loaded():
                changed(change)
        self._judge.watch(watched(inventory))
        # A new supervisor does not know them yet.
        for change in self._judge.unusable():
            changed(change)
        self._process = HealthProcess(inventory, self._host_root, self._judge, changed, report)
        self._process.start()

    def host_failed(self, error: CdiGenError) -> None:
        """Take note if no driver is loaded. An NVML that hangs is no sign of a new driver."""
        if error.code == NO_DRIVER:
            self._driver = None

    def stop(self) -> None:
        """End the process soon."""
        if self._process is not None:
            self._process.stop()
            self._process = None
