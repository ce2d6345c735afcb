# SPDX-License-Identifier: Apache-2.0
"""The host that the device plugin runs on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from cdi_base import host_fingerprint
from cdi_base.findings import Finding
from cdi_gen.host import Where
from cdi_gen.inventory import Driver
from cdi_gen.kubernetes.health.judge import Change, Judge
from cdi_gen.kubernetes.health.process import HealthProcess, watched
from cdi_gen.kubernetes.health.xids import Rules
from cdi_gen.kubernetes.probe import Facts, ProbeError, probe
from cdi_gen.kubernetes.probe.process import start


class ThisHost:
    """Examines this host as a `Where` describes it."""

    def __init__(self, where: Where, watch: host_fingerprint.Watch, rules: Rules) -> None:
        self._rules = rules
        self._judge = Judge((), rules)
        self._started: subprocess.Popen[str] | None = None
        self._driver: Driver | None = None
        """The driver that is loaded; None if none is, or before the first look."""
        prefix = where.host_root.rstrip("/")
        directories = (*where.library_search_path, *where.config_search_path)
        self._where = where
        self._choices = host_fingerprint.Choices(
            layout=host_fingerprint.Layout(
                prefix + where.driver_root,
                prefix + (where.dev_root or where.driver_root),
                [prefix + directory for directory in directories],
            ),
            watch=watch,
        )

    def ask_early(self) -> None:
        """Start to ask for the facts, so that the answer is there when `facts` is called."""
        self._started = start(self._where)

    def fingerprint(self) -> object:
        """Return the fingerprint of the driver, its nodes and its MIG devices."""
        return host_fingerprint.key(self._choices)

    def facts(self) -> Facts:
        """Return the facts, see `probe`."""
        started, self._started = self._started, None
        try:
            return probe(self._where, started=started)
        except ProbeError:
            self._driver = None
            raise

    def watch(
        self,
        facts: Facts,
        changed: Callable[[Change], None],
        report: Callable[[Finding], None],
    ) -> Callable[[], None]:
        """Start the process that watches the GPUs; return what ends it."""
        if not self._rules.checks:
            return lambda: None
        inventory = facts.inventory
        if inventory.driver != self._driver:
            self._driver = inventory.driver
            for change in self._judge.driver_loaded():
                changed(change)
        self._judge.watch(watched(inventory))
        process = HealthProcess(inventory, self._where.host_root, self._judge, changed, report)
        process.start()
        return process.stop
