# SPDX-License-Identifier: Apache-2.0
"""What a snapshot lacks is reported once."""

from __future__ import annotations

from dataclasses import replace

from cdi_base.findings import Finding
from cdi_gen.metrics.reports import SnapshotReports
from cdi_gen.metrics.snapshot import Snapshot
from tests.unit.metrics import snapshots


def reported(*series: Snapshot) -> list[tuple[str, str]]:
    findings: list[Finding] = []
    reports = SnapshotReports(findings.append)
    for snapshot in series:
        reports.note(snapshot)
    return [(finding.code, finding.message) for finding in findings]


def test_reason_is_reported_when_it_appears() -> None:
    idle = snapshots.idle()
    lists = ((), ("2 containers", "kubelet"), ("3 containers",), ("3 containers", "kubelet"))
    assert reported(*(replace(idle, unseen=reasons) for reasons in lists)) == [
        ("CDG-O100", "not seen: 2 containers"),
        ("CDG-O100", "not seen: kubelet"),
        ("CDG-O100", "not seen: kubelet"),
    ]


def test_nvml_that_cannot_be_used_is_reported_until_it_can() -> None:
    idle = snapshots.idle()
    without = replace(idle, reading=replace(idle.reading, gpus=(), error="no driver"))
    expected = ("CDG-O302", "the GPUs cannot be measured: no driver")
    assert reported(without, without, idle, without) == [expected, expected]


def test_each_gpu_with_a_fault_is_reported() -> None:
    idle = snapshots.idle()
    gpu = idle.reading.gpus[0]
    first = replace(gpu, fault="it does not answer")
    second = replace(gpu, index="1", uuid="GPU-1", fault="it is lost")
    one = replace(idle, reading=replace(idle.reading, gpus=(first,)))
    both = replace(idle, reading=replace(idle.reading, gpus=(first, second)))
    assert reported(one, both, both) == [
        ("CDG-O101", f"GPU {gpu.index} ({gpu.uuid}) cannot be measured: it does not answer"),
        ("CDG-O101", "GPU 1 (GPU-1) cannot be measured: it is lost"),
    ]
