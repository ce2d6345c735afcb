# SPDX-License-Identifier: Apache-2.0
"""Names devices by index, UUID, PCI address, or type and index."""

from __future__ import annotations

from cdi_base.nvidia import cdi_name, pci_name
from cdi_gen.generate.options import STRATEGIES
from cdi_gen.inventory import Gpu, MigDevice


def device_names(device: Gpu | MigDevice) -> dict[str, str]:
    """Return every name of the device, by strategy."""
    if isinstance(device, Gpu):
        names = {strategy: gpu_name(device, strategy) for strategy in STRATEGIES}
    else:
        names = {strategy: mig_name(device, strategy) for strategy in STRATEGIES}
    return {strategy: name for strategy, name in names.items() if name}


def gpu_name(gpu: Gpu, strategy: str) -> str | None:
    """Return the GPU's name under a strategy; None if its UUID or PCI address is unknown."""
    if strategy == "index":
        return str(gpu.index)
    if strategy == "type-index":
        return f"gpu{gpu.index}"
    if strategy == "pci":
        return None if gpu.pci_address is None else pci_name(gpu.pci_address)
    return gpu.uuid


def mig_name(device: MigDevice, strategy: str) -> str | None:
    """Return the MIG device's name under a strategy; None if it has no UUID, or by PCI address."""
    if strategy == "index":
        return f"{device.gpu_index}:{device.index}"
    if strategy == "type-index":
        return f"mig{device.gpu_index}:{device.index}"
    if strategy == "uuid" and device.uuid:
        return cdi_name(device.uuid)
    return None
