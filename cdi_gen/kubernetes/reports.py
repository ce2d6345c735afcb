# SPDX-License-Identifier: Apache-2.0
"""How long-running commands report: each finding once until it changes; and when they try again."""

from __future__ import annotations

from collections.abc import Callable

from cdi_base.findings import Finding

Report = Callable[[Finding], None]
"""Prints a finding."""

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds until something that failed is tried again: after many failures the last one."""


def pause(failures: int) -> float:
    """Return the seconds to wait after so many failures before the last one."""
    return PAUSES[min(failures, len(PAUSES) - 1)]


class Reports:
    """Reports the findings about a topic, unless they are those of the last time."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._messages: dict[str, tuple[str, ...]] = {}

    def update(self, topic: str, *findings: Finding) -> None:
        """Report what is new about a topic; without findings the topic is settled."""
        before = self._messages.get(topic, ())
        self._messages[topic] = tuple(finding.message for finding in findings)
        for finding in findings:
            if finding.message not in before:
                self._report(finding)
