# SPDX-License-Identifier: Apache-2.0
"""Reports what could not be seen of containers, once and not in each interval."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from cdi_base.findings import Finding

_NUMBER = re.compile(r"\d+")


class UnseenReports:
    """Reports a reason when it appears, and again only after it has disappeared.

    Args:
        report: prints a finding.
    """

    def __init__(self, report: Callable[[Finding], None]) -> None:
        self._report = report
        self._forms: frozenset[str] = frozenset()
        """The reasons of the last snapshot without their numbers."""

    def note(self, reasons: Iterable[str]) -> None:
        """Take the reasons of a snapshot."""
        by_form = {_NUMBER.sub("N", reason): reason for reason in reasons}
        for form, reason in by_form.items():
            if form not in self._forms:
                self._report(Finding("CDG-O100", "warning", f"not seen: {reason}"))
        self._forms = frozenset(by_form)
