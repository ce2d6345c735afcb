# SPDX-License-Identifier: Apache-2.0
"""What could not be seen is reported once."""

from __future__ import annotations

from cdi_base.findings import Finding
from cdi_gen.metrics.unseen import UnseenReports


def test_reason_is_reported_when_it_appears() -> None:
    findings: list[Finding] = []
    reports = UnseenReports(findings.append)
    for reasons in ([], ["2 containers", "kubelet"], ["3 containers"], ["3 containers", "kubelet"]):
        reports.note(reasons)
    assert [(finding.code, finding.message) for finding in findings] == [
        ("CDG-O100", "not seen: 2 containers"),
        ("CDG-O100", "not seen: kubelet"),
        ("CDG-O100", "not seen: kubelet"),
    ]
