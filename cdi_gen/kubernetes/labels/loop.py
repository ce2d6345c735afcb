# SPDX-License-Identifier: Apache-2.0
"""Keeps the labels of a node in line with its host."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from cdi_base.files import read_beginning
from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.labels.node_labels import labels, labels_findings
from cdi_gen.kubernetes.labels.outputs import Output
from cdi_gen.kubernetes.labels.settings import LabelSettings
from cdi_gen.kubernetes.probe import Facts, Host
from cdi_gen.kubernetes.reports import Report, Reports, pause

LOOK = 5.0
"""Seconds between two looks whether the host has changed, which are a few calls of stat."""


class Labeller:
    """Publishes the labels of a node.

    Args:
        settings: how the labels are made.
        host: where facts come from.
        output: where the labels go.
        report: prints a finding; each one is printed once until it changes.
        now: the time of the label ``gfd.timestamp``: when the settings were read.
    """

    def __init__(
        self, settings: LabelSettings, host: Host, output: Output, report: Report, now: float
    ) -> None:
        self._settings = settings
        self._host = host
        self._output = output
        self._report = report
        self._now = now
        self._fingerprint: object = None
        self._due = 0.0
        self._failures = 0
        self._is_published = False
        self._reports = Reports(report)

    def publish_once(self) -> None:
        """Publish the labels of this moment.

        Raises:
            CdiGenError: the host cannot be examined, and the settings say that this is an error; or
                the labels cannot be published.
        """
        self._publish(self._facts())

    def run(self) -> None:
        """Publish the labels until an exception ends the process, such as that of a signal.

        Raises:
            CdiGenError: the host cannot be examined at the start, and the settings say that this is
                an error.
        """
        while True:
            time.sleep(self.step(time.monotonic()))

    def step(self, now: float) -> float:
        """Do what is due at this time; return the seconds until the next step."""
        interval = self._settings.sleep_interval
        fingerprint = self._host.fingerprint()
        if now >= self._due or (interval is not None and fingerprint != self._fingerprint):
            self._fingerprint = fingerprint
            if self._update():
                self._failures = 0
                self._due = math.inf if interval is None else now + interval
            else:
                self._due = now + pause(self._failures)
                self._failures += 1
        return max(0.0, min(LOOK, self._due - now))

    def _update(self) -> bool:
        """Publish the labels; return whether the host was examined and the labels are published.

        Labels that were published stay as they are while the host cannot be examined.
        """
        facts = self._facts()
        if facts is not None or not self._is_published:
            try:
                self._publish(facts)
            except CdiGenError as error:
                self._reports.update("output", error.finding)
                return False
            self._reports.update("output")
        return facts is not None

    def _facts(self) -> Facts | None:
        """Return the facts of the host; None if it cannot be examined and that is no error."""
        try:
            facts = self._host.facts()
        except CdiGenError as error:
            if self._settings.fails_without_gpus and not self._is_published:
                raise
            self._reports.update("host", _waiting(error))
            return None
        self._reports.update("host")
        if self._settings.machine_type_file is not None:
            machine = _machine(self._settings.machine_type_file)
            facts = replace(facts, properties=replace(facts.properties, machine=machine))
        return facts

    def _publish(self, facts: Facts | None) -> None:
        values = labels(facts, self._settings, self._now)
        if facts is not None:
            self._reports.update("labels", *labels_findings(facts, self._settings))
        place = self._output.publish(values)
        self._is_published = True
        if place is not None:
            message = f"{len(values)} labels are published: {place}"
            self._report(Finding("CDG-N310", "info", message, subject=place))


def _machine(path: str) -> str | None:
    """Return the product name in a file; None if there is none."""
    try:
        return read_beginning(path, 256).decode("utf-8", "replace").strip() if path else None
    except OSError:
        return None


def _waiting(error: CdiGenError) -> Finding:
    """Return the finding that the labels do not describe devices yet, and why."""
    return Finding(
        error.code,
        "warning",
        f"the host cannot be examined: {error.message}",
        subject=error.subject,
        fix=error.hint or "",
    )
