# SPDX-License-Identifier: Apache-2.0
"""Reads NVIDIA's PCI functions and the IOMMU groups from sysfs."""

from __future__ import annotations

from typing import Any, NamedTuple

from cdi_gen.host.devices import proc
from cdi_gen.host.roots import Root

DEVICES = "/sys/bus/pci/devices"
IOMMU_GROUPS = "/sys/kernel/iommu_groups"
NVIDIA = 0x10DE
DISPLAY = 0x03
"""The base class of GPUs: VGA and 3D controllers."""
BRIDGE, NVSWITCH = 0x06, 0x068000


class PciFunction(NamedTuple):
    """A function of a PCI device."""

    address: str
    """``0000:3b:00.0``."""
    vendor: int
    device: int
    pci_class: int
    """With the programming interface: 0x030200 is a 3D controller."""
    driver: str
    """The name of the bound driver; empty if there is none."""
    iommu_group: int | None
    is_virtual: bool
    """A virtual function (SR-IOV), as of vGPU."""
    has_fallen: bool
    """The configuration space reads as all ones: the device is off the bus."""

    @property
    def is_gpu(self) -> bool:
        """Whether the function is a GPU, and not its audio function or an NVSwitch."""
        return self.vendor == NVIDIA and self.pci_class >> 16 == DISPLAY

    @property
    def is_nvswitch(self) -> bool:
        """Whether the function is an NVSwitch, which sysfs lists as a bridge."""
        return self.vendor == NVIDIA and self.pci_class == NVSWITCH


def functions_of_nvidia(root: Root) -> list[list[Any]]:
    """Return the fields of NVIDIA's functions, in PCI order."""
    names = sorted(entry.name for entry in root.entries(DEVICES))
    return [
        [*function(root, name)]
        for name in names
        if _number(root, f"{DEVICES}/{name}/vendor") == NVIDIA
    ]


def group(root: Root, number: int) -> list[list[Any]]:
    """Return the fields of all functions of an IOMMU group."""
    directory = f"{IOMMU_GROUPS}/{number}/devices"
    return [[*function(root, entry.name)] for entry in sorted(root.entries(directory), key=_name)]


def function(root: Root, address: str) -> PciFunction:
    """Return the facts of a function. A number that cannot be read is 0."""
    directory = f"{DEVICES}/{address}"
    group_name = _target_name(root, f"{directory}/iommu_group")
    return PciFunction(
        address=address,
        vendor=_number(root, f"{directory}/vendor"),
        device=_number(root, f"{directory}/device"),
        pci_class=_number(root, f"{directory}/class"),
        driver=_target_name(root, f"{directory}/driver"),
        iommu_group=int(group_name) if group_name.isdecimal() else None,
        is_virtual=root.exists(f"{directory}/physfn"),
        has_fallen=proc.is_off_the_bus(root, address),
    )


def _name(entry: Any) -> str:
    return str(entry.name)


def _target_name(root: Root, path: str) -> str:
    """Return the name of the directory that a link of sysfs leads to; empty without a link."""
    try:
        return root.resolve(path).rpartition("/")[2]
    except OSError:
        return ""


def _number(root: Root, path: str) -> int:
    try:
        return int(root.read_text(path, 64), 16)
    except (OSError, ValueError):
        return 0
