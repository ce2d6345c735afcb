# SPDX-License-Identifier: Apache-2.0
"""Reports what snapshots lack: GPUs that cannot be measured, containers that cannot be seen.

A fault is reported when it appears, and not in each interval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from cdi_base.errors import printable
from cdi_base.findings import Finding
from cdi_gen.metrics.snapshot import Snapshot

_NUMBER = re.compile(r"\d+")


class SnapshotReports:
    """Reports a fault when it appears, and again only after it has disappeared.

    Args:
        report: prints a finding.
    """

    def __init__(self, report: Callable[[Finding], None]) -> None:
        self._report = report
        self._keys: frozenset[str] = frozenset()
        """Of the faults of the last snapshot."""

    def note(self, snapshot: Snapshot) -> None:
        """Take a snapshot."""
        findings = dict(_findings(snapshot))
        for key, finding in findings.items():
            if key not in self._keys:
                self._report(finding)
        self._keys = frozenset(findings)


def _findings(snapshot: Snapshot) -> Iterator[tuple[str, Finding]]:
    """Yield a finding for each fault, with a key that stays the same while the fault lasts."""
    reading = snapshot.reading
    if reading.error:
        message = f"the GPUs cannot be measured: {printable(reading.error)}"
        yield "NVML", Finding("CDG-O302", "warning", message, fix="see why: cdi-gen doctor")
    for gpu in reading.gpus:
        if gpu.fault:
            message = f"GPU {gpu.index} ({gpu.uuid}) cannot be measured: {printable(gpu.fault)}"
            fix = "see what the driver says: sudo dmesg | grep -e NVRM -e Xid"
            yield gpu.uuid, Finding("CDG-O101", "warning", message, fix=fix)
    for reason in snapshot.unseen:
        form = _NUMBER.sub("N", reason)  # numbers of processes change
        yield form, Finding("CDG-O100", "warning", f"not seen: {reason}")
