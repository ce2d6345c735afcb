# SPDX-License-Identifier: Apache-2.0
"""Converts the records of an inventory (unusable, stale, ignored, missing) to findings."""

from __future__ import annotations

from cdi_base.findings import Finding
from cdi_gen.inventory.model import Ignored, Inventory, Record, StaleNode, UnusableDevice


def findings(inventory: Inventory) -> tuple[Finding, ...]:
    """Return a finding for each record of the inventory, warnings first."""
    records: list[Record] = [*inventory.unusable_devices, *inventory.stale_nodes]
    records += [*inventory.ignored, *inventory.missing]
    return tuple(map(finding, records))


def finding(record: Record) -> Finding:
    """Return the finding of a record: a warning for devices and stale nodes, else information."""
    if isinstance(record, UnusableDevice):
        message = f"left out: {record.device}: {record.reason}"
        return Finding(record.code, "warning", message, subject=record.device)
    if isinstance(record, StaleNode):
        message = f"{record.path} {record.reason}"
        return Finding(record.code, "warning", message, subject=record.path)
    if isinstance(record, Ignored):
        message = f"left out: {record.path}: {record.reason}"
        return Finding(record.code, "info", message, subject=record.path)
    message = f"missing: {record.name}: {record.reason}"
    return Finding(record.code, "info", message, subject=record.name)
