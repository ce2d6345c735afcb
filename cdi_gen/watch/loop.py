# SPDX-License-Identifier: Apache-2.0
"""Compares the host with its state at the last refresh, and refreshes if it has changed."""

from __future__ import annotations

import time
from collections.abc import Callable

from cdi_base.findings import Finding
from cdi_gen.errors import ExitCode
from cdi_gen.service_manager import ServiceManager
from cdi_gen.waking import Waker
from cdi_gen.watch.host_state import HostState, Observer
from cdi_gen.watch.refresher import Refresher
from cdi_gen.watch.schedule import Schedule

POLL_SECONDS = 2.0
"""How often the host is read. The kernel reports no change of MIG devices."""

STATUSES = {
    ExitCode.OK: "the specs are up to date",
    ExitCode.NO_DRIVER: "no NVIDIA driver or GPU; waiting for one",
    ExitCode.PARTIAL: "the specs are up to date, without a device that cannot be used",
    ExitCode.STALE: "the driver's libraries and its module disagree; the last good specs are kept",
}


class Loop:
    """Watches a host until `stop`.

    Args:
        observer: reads the state of the host.
        waker: ends waits when the host may have changed.
        refresher: runs a refresh.
        manager: the service manager.
        report: prints a finding.
    """

    def __init__(
        self,
        observer: Observer,
        waker: Waker,
        refresher: Refresher,
        manager: ServiceManager,
        report: Callable[[Finding], None],
    ) -> None:
        self._observer = observer
        self._waker = waker
        self._refresher = refresher
        self._manager = manager
        self._report = report
        self._schedule: Schedule[HostState] = Schedule()
        self._is_stopping = False

    def stop(self) -> None:
        """End the loop soon. It may be called by a signal handler."""
        self._is_stopping = True
        self._waker.wake()

    def run(self) -> None:
        """Watch until `stop` is called."""
        self._manager.ready("started")
        while not self._is_over():
            now = time.monotonic()
            state = self._observer.state()
            self._schedule.observe(state, now)
            due = self._schedule.due_at()
            if due is not None and due <= now:
                self._refresh(state)
                continue
            self._waker.wait(POLL_SECONDS if due is None else min(POLL_SECONDS, due - now))
        self._manager.stopping()

    def _refresh(self, state: HostState) -> None:
        before = self._schedule.refreshed
        change = state.difference(before) if before is not None else ""
        if change:
            self._report(Finding("CDG-W001", "info", f"the host has changed: {change}"))
        code = self._refresher.run(self._is_over)
        if code is None:
            return
        self._schedule.refresh_ended(state, code, time.monotonic())
        status = next((text for known, text in STATUSES.items() if known == code), None)
        if status is None:
            status = f"the last refresh failed with exit code {code}; it is tried again"
            self._report(Finding("CDG-W101", "warning", status))
        self._manager.status(status)

    def _is_over(self) -> bool:
        """Whether the process is to end; also a sign of life."""
        self._manager.alive()
        return self._is_stopping
