# SPDX-License-Identifier: Apache-2.0
"""Examines the host with the checks of ``cdi-gen doctor``, and counts the findings.

The service may run as a user of its own: checks of the user who runs doctor say nothing here.
"""

from __future__ import annotations

from collections import Counter

from cdi_gen.doctor import checks
from cdi_gen.doctor.check import STATUSES
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.run import run
from cdi_gen.metrics.own.model import DoctorState, FindingCount
from cdi_gen.refresh.settings import Layout

OF_USER = "rootless"
"""The group of checks that examine the user."""


def examine(layout: Layout) -> DoctorState:
    """Return the number of findings of each code and severity, and of checks by status."""
    of_host = [check for check in checks.load() if check.group != OF_USER]
    results = run(of_host, Host(layout.where()))
    findings = Counter(
        (finding.code, finding.severity) for result in results for finding in result.findings
    )
    statuses = Counter(result.status for result in results)
    return DoctorState(
        findings=tuple(
            FindingCount(code=code, severity=severity, count=count)
            for (code, severity), count in sorted(findings.items())
        ),
        checks={status: statuses[status] for status in STATUSES},
    )
