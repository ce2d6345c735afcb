# SPDX-License-Identifier: Apache-2.0
"""Finds the GPUs that a host passes through to virtual machines: those bound to vfio-pci."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.host.roots import Root

PCI_DEVICES = "/sys/bus/pci/devices"
DRIVER = "vfio-pci"
NVIDIA = 0x10DE
"""NVIDIA's PCI vendor id."""
CLASSES = (0x030000, 0x030200)
"""A VGA controller and a 3D controller."""
BARS = 6
MEMORY_TYPE, MEMORY_64_BIT = 0x06, 0x04
"""The bits of a region's flags that have the size of its addresses, and the value for 64 bits."""


class PassthroughGpu(NamedTuple):
    """A GPU that is bound to vfio-pci, by sysfs."""

    pci_address: str
    device: int
    """The PCI device id."""


def passthrough_gpus(host: Root) -> Iterator[PassthroughGpu]:
    """Yield the GPUs in PCI order, without virtual functions."""
    for entry in sorted(host.entries(PCI_DEVICES), key=lambda entry: entry.name):
        directory = f"{PCI_DEVICES}/{entry.name}"
        if not _is_passed_through(host, directory):
            continue
        yield PassthroughGpu(
            pci_address=entry.name,
            device=_number(host, f"{directory}/device") or 0,
        )


def _is_passed_through(host: Root, directory: str) -> bool:
    return (
        _number(host, f"{directory}/vendor") == NVIDIA
        and _number(host, f"{directory}/class") in CLASSES
        and not host.exists(f"{directory}/physfn")
        and _driver(host, directory) == DRIVER
    )


def addressable_memory(host: Root, pci_address: str) -> int:
    """Return the size of the 64-bit memory regions of a GPU in bytes, rounded up to a power of two.

    It is at least the GPU's memory, if the firmware of the machine maps all of that.
    """
    total = 0
    # Start, end and flags of each region.
    resource = _text(host, f"{PCI_DEVICES}/{pci_address}/resource")
    for line in resource.splitlines()[:BARS]:
        if not re.fullmatch(r"0x[0-9a-f]{1,16}( 0x[0-9a-f]{1,16}){2}", line):
            continue
        start, end, flags = (int(number, 16) for number in line.split())
        if end > start and flags & MEMORY_TYPE == MEMORY_64_BIT:
            total += end - start + 1
    return 1 << (total - 1).bit_length() if total else 0


def _driver(host: Root, directory: str) -> str:
    try:
        return host.resolve(f"{directory}/driver").rpartition("/")[2]
    except OSError:
        return ""


def _number(host: Root, path: str) -> int | None:
    try:
        return int(_text(host, path), 16)
    except ValueError:
        return None


def _text(host: Root, path: str) -> str:
    try:
        return host.read_text(path, 4096)
    except OSError:
        return ""
