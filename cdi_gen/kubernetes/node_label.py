# SPDX-License-Identifier: Apache-2.0
"""Follows the value of a label of this node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.reports import Report, Reports, pause

if TYPE_CHECKING:
    from cdi_gen.kubernetes.api import Api

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""A node without its spec and status: those have up to 50 images and change every few minutes."""

WATCH_SECONDS = 240
"""The time after which the API server ends a watch."""

SHORT_SECONDS = 10.0
"""A watch that ended sooner is not begun again at once: every one may end at once."""


class NodeLabel:
    """A label of a node.

    Args:
        api: the API server.
        node: the name of the node.
        label: the name of the label.
        report: prints a finding; each one is printed once until it changes.
    """

    def __init__(self, api: Api, node: str, label: str, report: Report) -> None:
        self._api = api
        self._node = node
        self._label = label
        self._reports = Reports(report)
        self._version = ""
        self.value = ""
        """The last value that the API server gave; empty: the node does not have the label."""

    def wait(self) -> str:
        """Return the value; wait until the API server gives it, however long that takes."""
        failures = 0
        while not self._try(self._read):
            time.sleep(pause(failures))
            failures += 1
        return self.value

    def follow(self, changed: Callable[[], None]) -> None:
        """Call a function from a thread each time that the value has changed."""
        threading.Thread(target=self._follow, args=(changed,), name="label", daemon=True).start()

    def _follow(self, changed: Callable[[], None]) -> None:
        failures = 0
        while True:
            before = self.value
            succeeded = self._try(self._read)
            if self.value != before:
                changed()
            begin = time.monotonic()
            succeeded = succeeded and self._try(lambda: self._watch(changed))
            if succeeded and time.monotonic() - begin >= SHORT_SECONDS:
                failures = 0
            else:
                time.sleep(pause(failures))
                failures += 1

    def _try(self, request: Callable[[], None]) -> bool:
        try:
            request()
        except CdiGenError as error:
            message = f"the label {self._label} of the node is not known: {error.message}"
            self._reports.update(
                "label",
                Finding(error.code, "warning", message, subject=self._node, fix=error.hint or ""),
            )
            return False
        self._reports.update("label")
        return True

    def _read(self) -> None:
        self._take(self._api.request("GET", f"/api/v1/nodes/{quote(self._node)}", accept=METADATA))

    def _watch(self, changed: Callable[[], None]) -> None:
        """Follow the value until the node has to be read again."""
        path = (
            f"/api/v1/nodes?watch=true&fieldSelector=metadata.name%3D{quote(self._node)}"
            f"&resourceVersion={quote(self._version)}&timeoutSeconds={WATCH_SECONDS}"
        )
        for kind, node in self._api.watch(path, accept=METADATA, seconds=WATCH_SECONDS):
            if kind not in {"ADDED", "MODIFIED"}:
                return  # ERROR: the version is too old. DELETED: the node may come again.
            before = self.value
            self._take(node)
            if self.value != before:
                changed()

    def _take(self, node: dict[str, Any]) -> None:
        from cdi_gen.kubernetes.api import table  # noqa: PLC0415 - imports urllib3

        metadata = table(node.get("metadata"))
        self._version = str(metadata.get("resourceVersion") or "")
        self.value = str(table(metadata.get("labels")).get(self._label) or "")
