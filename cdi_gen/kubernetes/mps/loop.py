# SPDX-License-Identifier: Apache-2.0
"""Keeps the MPS control daemons of a node without a device plugin, in a process of its own."""

from __future__ import annotations

import threading

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.mps.daemons import Mps
from cdi_gen.kubernetes.probe import Host
from cdi_gen.kubernetes.reports import Report, Reports, pause
from cdi_gen.kubernetes.resources.advertise import advertise
from cdi_gen.kubernetes.settings import Settings

PROBE_INTERVAL = 5.0
"""Seconds between two looks whether the host has changed."""


class MpsLoop:
    """Keeps the daemons until `stop`.

    Args:
        settings: those of the device plugin.
        host: where facts come from.
        mps: keeps the daemons.
        report: prints a finding.
    """

    def __init__(self, settings: Settings, host: Host, mps: Mps, report: Report) -> None:
        self._settings = settings
        self._host = host
        self._mps = mps
        self._reports = Reports(report)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End `run` soon. It may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Follow the host until `stop` is called; the daemons go on after that."""
        fingerprint: object = None
        failures = 0
        try:
            while not self._stopping.is_set():
                now = self._host.fingerprint()
                if now != fingerprint or failures:
                    fingerprint = now
                    failures = 0 if self._follow() else failures + 1
                self._stopping.wait(pause(failures) if failures else PROBE_INTERVAL)
        finally:
            self._mps.stop()

    def _follow(self) -> bool:
        """Keep the daemons that the host needs now; return whether the host is known."""
        try:
            facts = self._host.facts()
            advertised = advertise(facts.inventory, facts.properties, self._settings)
        except CdiGenError as error:
            message = f"waiting for usable GPUs: {error.message}"
            fix = error.hint or ""
            self._reports.update(
                "host", Finding(error.code, "warning", message, subject=error.subject, fix=fix)
            )
            return False
        self._reports.update("host", *advertised.findings)
        self._mps.want(advertised.resources, facts.inventory, lambda: None)
        return True
