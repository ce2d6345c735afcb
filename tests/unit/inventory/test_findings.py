# SPDX-License-Identifier: Apache-2.0
"""The records of an inventory as findings."""

from __future__ import annotations

import pytest

from cdi_base.findings import Finding
from cdi_gen.inventory import DGPU, Ignored, Inventory, Missing, StaleNode, UnusableDevice
from cdi_gen.inventory.findings import finding, findings

RECORDS: list[tuple[UnusableDevice | StaleNode | Ignored | Missing, Finding]] = [
    (
        UnusableDevice(device="GPU 0", reason="off the bus", code="CDG-H102"),
        Finding("CDG-H102", "warning", "left out: GPU 0: off the bus", subject="GPU 0"),
    ),
    (
        StaleNode(path="/dev/nvidia0", reason="has old numbers", code="CDG-H301"),
        Finding("CDG-H301", "warning", "/dev/nvidia0 has old numbers", subject="/dev/nvidia0"),
    ),
    (
        Ignored(path="/usr/bin/nvidia-smi", reason="a script", code="CDG-H409"),
        Finding(
            "CDG-H409",
            "info",
            "left out: /usr/bin/nvidia-smi: a script",
            subject="/usr/bin/nvidia-smi",
        ),
    ),
    (
        Missing(name="/dev/nvidia-uvm", reason="no node", code="CDG-H201"),
        Finding("CDG-H201", "info", "missing: /dev/nvidia-uvm: no node", subject="/dev/nvidia-uvm"),
    ),
]


@pytest.mark.parametrize(("record", "expected"), RECORDS, ids=lambda value: type(value).__name__)
def test_record_is_a_finding(
    record: UnusableDevice | StaleNode | Ignored | Missing, expected: Finding
) -> None:
    assert finding(record) == expected


def test_warnings_come_first() -> None:
    skipped, stale, left, missing = (record for record, _ in RECORDS)
    assert isinstance(skipped, UnusableDevice)
    assert isinstance(stale, StaleNode)
    assert isinstance(left, Ignored)
    assert isinstance(missing, Missing)
    inventory = Inventory(
        platform=DGPU,
        architecture="x86_64",
        missing=(missing,),
        ignored=(left,),
        stale_nodes=(stale,),
        unusable_devices=(skipped,),
    )
    assert findings(inventory) == tuple(expected for _, expected in RECORDS)
