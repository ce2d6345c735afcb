# SPDX-License-Identifier: Apache-2.0
"""Reads format 1 of the inventory, which cdi-gen 0.1 wrote for discrete GPUs only.

In this format each GPU has one node, a minor number and a PCI address, and each host has a driver.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdi_gen.inventory.model import (
    DGPU,
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
    StaleNode,
    UnusableDevice,
)


@dataclass(kw_only=True)
class GpuOfFormat1:
    """A full GPU."""

    index: int
    minor: int
    uuid: str | None
    pci_address: str
    model: str
    node: CharDevice
    drm_nodes: tuple[CharDevice, ...] = ()
    by_path: tuple[str, ...] = ()
    mig_enabled: bool = False
    compute_capability: str | None = None
    brand: str | None = None


@dataclass(kw_only=True)
class MissingOfFormat1:
    """A file that a complete driver installation has and that is missing on this host."""

    name: str
    reason: str


@dataclass(kw_only=True)
class DeviceOfFormat1:
    """A device that cannot be given to a container."""

    device: str
    reason: str


@dataclass(kw_only=True)
class PathOfFormat1:
    """A device node with the numbers of another boot, or a file that was ignored."""

    path: str
    reason: str


@dataclass(kw_only=True)
class InventoryOfFormat1:
    """All facts of one host."""

    architecture: str
    driver_root: str = "/"
    dev_root: str = "/"
    driver: Driver
    gpus: tuple[GpuOfFormat1, ...] = ()
    mig_devices: tuple[MigDevice, ...] = ()
    control_nodes: tuple[CharDevice, ...] = ()
    transport_nodes: tuple[CharDevice, ...] = ()
    transport_files: tuple[DriverFile, ...] = ()
    libraries: tuple[Library, ...] = ()
    files: tuple[DriverFile, ...] = ()
    hook: HookProgram | None = None
    engines_make_nodes: bool = True
    booting: bool = False
    missing: tuple[MissingOfFormat1, ...] = ()
    stale: tuple[PathOfFormat1, ...] = ()
    skipped: tuple[DeviceOfFormat1, ...] = ()
    left: tuple[PathOfFormat1, ...] = ()

    def converted(self) -> Inventory:
        """Return the same facts in the current format, with a general code for each reason."""
        facts = dict(vars(self))
        facts["gpus"] = tuple(_gpu(gpu) for gpu in self.gpus)
        facts["missing"] = tuple(Missing(code="CDG-H201", **vars(item)) for item in self.missing)
        del facts["stale"], facts["skipped"], facts["left"]
        facts["stale_nodes"] = tuple(
            StaleNode(code="CDG-H301", **vars(item)) for item in self.stale
        )
        facts["unusable_devices"] = tuple(
            UnusableDevice(code="CDG-H105", **vars(item)) for item in self.skipped
        )
        facts["ignored"] = tuple(Ignored(code="CDG-H403", **vars(item)) for item in self.left)
        return Inventory(platform=DGPU, **facts)


def _gpu(gpu: GpuOfFormat1) -> Gpu:
    facts = dict(vars(gpu))
    return Gpu(nodes=(facts.pop("node"),), **facts)
