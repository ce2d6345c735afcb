# SPDX-License-Identifier: Apache-2.0
"""The inventory: everything known of a host, as one immutable value."""

from __future__ import annotations

from cdi_gen.inventory.model import (
    FORMAT_VERSION,
    CharDevice,
    Driver,
    DriverFile,
    Gpu,
    HookProgram,
    Inventory,
    Left,
    Library,
    MigDevice,
    Missing,
    Skipped,
    Stale,
)

__all__ = [
    "FORMAT_VERSION",
    "CharDevice",
    "Driver",
    "DriverFile",
    "Gpu",
    "HookProgram",
    "Inventory",
    "Left",
    "Library",
    "MigDevice",
    "Missing",
    "Skipped",
    "Stale",
]
