# SPDX-License-Identifier: Apache-2.0
"""Examines the host with all checks of ``cdi-gen doctor``, and counts the findings."""

from __future__ import annotations

from collections import Counter

from cdi_gen.doctor import checks
from cdi_gen.doctor.check import STATUSES
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.run import run
from cdi_gen.metrics.own.model import DoctorState, FindingCount
from cdi_gen.refresh.settings import Layout


def examine(layout: Layout) -> DoctorState:
    """Return the number of findings of each code and severity, and of checks by status."""
    results = run(checks.load(), Host(layout.where()))
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
