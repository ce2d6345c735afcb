# SPDX-License-Identifier: Apache-2.0
"""Names of devices: by index, UUID, PCI address, or type and index."""

from __future__ import annotations

from cdi_base.nvidia import cdi_name, pci_name
from cdi_gen.generate.options import STRATEGIES
from cdi_gen.inventory import Gpu, MigDevice


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
        return None if gpu.pci_address is None else pci_name(gpu.pci_address)
    return gpu.uuid


def mig_name(device: MigDevice, strategy: str) -> str | None:
    """The MIG device's name under a strategy; None where it has none (a PCI address)."""
    if strategy == "index":
        return f"{device.gpu_index}:{device.index}"
    if strategy == "type-index":
        return f"mig{device.gpu_index}:{device.index}"
    if strategy == "uuid" and device.uuid:
        return cdi_name(device.uuid)
    return None
