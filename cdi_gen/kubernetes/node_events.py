# SPDX-License-Identifier: Apache-2.0
"""Creates an Event of the node for each change of a device's health: ``kubectl describe node``."""

from __future__ import annotations

import os
import queue
import threading
import time
from datetime import datetime, timezone
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.api import Api, ApiError
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.reports import Report, Reports, pause

NAMESPACE = "default"
"""Where the Events of objects without a namespace are, such as a node."""

COMPONENT = "cdi-gen-device-plugin"
REASONS = {True: "DeviceHealthy", False: "DeviceUnhealthy"}

MAX_WAITING = 256
"""Changes that wait while the API server is away; more are left to the log."""
MAX_NAME = 230
"""Characters of a node's name in the name of an Event, which has at most 253."""
MAX_MESSAGE = 1024
"""Characters, by the definition of an Event."""
ATTEMPTS = 10
"""About four minutes in all. An Event is kept by the API server for an hour."""


class NodeEvents:
    """An observer that creates Events, from a thread of its own.

    Args:
        api: the API server.
        node: the name of the node.
        report: prints a finding; each one is printed once until it changes.
    """

    def __init__(self, api: Api, node: str, report: Report) -> None:
        self._api = api
        self._node = node
        self._reports = Reports(report)
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(MAX_WAITING)
        threading.Thread(target=self._send_all, name="events", daemon=True).start()

    def devices(self, resource: str, healthy: int, unhealthy: int) -> None:
        """Ignore the report."""

    def registered(self, resource: str) -> None:
        """Ignore the report."""

    def answered(self, resource: str, method: str, seconds: float, *, failed: bool) -> None:
        """Ignore the report."""

    def health_changed(self, change: Change) -> None:
        """Create an Event, now or when the API server answers again."""
        try:
            self._waiting.put_nowait(event(change, self._node, time.time()))
        except queue.Full:
            self._failed("too many Events wait for the API server")

    def _send_all(self) -> None:
        while True:
            content = self._waiting.get()
            for attempt in range(ATTEMPTS):
                if self._send(content):
                    break
                time.sleep(pause(attempt))

    def _send(self, content: dict[str, Any]) -> bool:
        """Create an Event; return whether there is nothing left to do for it."""
        try:
            self._api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/events", content)
        except CdiGenError as error:
            self._failed(error.message, error.hint or "")
            return isinstance(error, ApiError) and 400 <= error.status < 500
        self._reports.update("events")
        return True

    def _failed(self, reason: str, hint: str = "") -> None:
        message = f"an Event of the node is not created: {reason}"
        self._reports.update(
            "events", Finding("CDG-N122", "warning", message, subject=self._node, fix=hint)
        )


def event(change: Change, node: str, now: float) -> dict[str, Any]:
    """Return the Event of a change, which happened at a time in seconds since 1970."""
    finding = change.finding
    moment = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    fix = f" {finding.fix}" if finding.fix and not change.healthy else ""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{node[:MAX_NAME]}.{os.urandom(8).hex()}", "namespace": NAMESPACE},
        # `kubectl describe node` looks for the name of the node in the field uid.
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": "Normal" if change.healthy else "Warning",
        "reason": REASONS[change.healthy],
        "message": f"{finding.message} [{finding.code}]{fix}"[:MAX_MESSAGE],
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
    }
