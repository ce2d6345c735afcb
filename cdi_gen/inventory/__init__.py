# SPDX-License-Identifier: Apache-2.0
"""The inventory: all facts about a host, as one immutable value."""

from __future__ import annotations

from cdi_gen.inventory.model import (
    DGPU,
    PLATFORMS,
    TEGRA,
    VFIO,
    WSL,
    CharDevice,
    Driver,
    DriverFile,
    Gpu,
    HookProgram,
    Ignored,
    Inventory,
    Library,
    MigDevice,
    Missing,
    Record,
    StaleNode,
    UnusableDevice,
)

__all__ = [
    "DGPU",
    "PLATFORMS",
    "TEGRA",
    "VFIO",
    "WSL",
    "CharDevice",
    "Driver",
    "DriverFile",
    "Gpu",
    "HookProgram",
    "Ignored",
    "Inventory",
    "Library",
    "MigDevice",
    "Missing",
    "Record",
    "StaleNode",
    "UnusableDevice",
]
