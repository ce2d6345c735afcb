# SPDX-License-Identifier: Apache-2.0
"""Names of devices: by index, UUID, PCI address, or type and index."""

from __future__ import annotations

from cdi_gen.generate.options import STRATEGIES
from cdi_gen.inventory import Gpu, MigDevice
from cdi_gen.inventory.validation import MIG_UUID_BEFORE_470


def names_of(device: Gpu | MigDevice) -> dict[str, str]:
    """Every name that the device has, by strategy."""
    found = (
        (each, gpu_name(device, each) if isinstance(device, Gpu) else mig_name(device, each))
        for each in STRATEGIES
    )
    return {strategy: name for strategy, name in found if name}


def gpu_name(gpu: Gpu, strategy: str) -> str | None:
    """The GPU's name under a strategy; None if it has none: no known UUID, no PCI address."""
    if strategy == "index":
        return str(gpu.index)
    if strategy == "type-index":
        return f"gpu{gpu.index}"
    if strategy == "pci":
        if gpu.pci_address is None:
            return None
        return "pci-" + gpu.pci_address.replace(":", "-").replace(".", "-")
    return gpu.uuid


def mig_name(device: MigDevice, strategy: str) -> str | None:
    """The MIG device's name under a strategy; None where it has none (a PCI address)."""
    if strategy == "index":
        return f"{device.gpu_index}:{device.index}"
    if strategy == "type-index":
        return f"mig{device.gpu_index}:{device.index}"
    if strategy == "uuid" and device.uuid:
        return in_cdi(device.uuid)
    return None


def in_cdi(name: str) -> str:
    """The name as CDI allows it: ``MIG-GPU-…:1:0`` for what an old driver calls ``…/1/0``."""
    return name.replace("/", ":") if MIG_UUID_BEFORE_470.fullmatch(name) else name
