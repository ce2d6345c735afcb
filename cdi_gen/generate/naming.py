# SPDX-License-Identifier: Apache-2.0
"""Names of devices: by index, UUID, PCI address, or type and index."""

from __future__ import annotations

from cdi_gen.inventory import Gpu, MigDevice


def gpu_name(gpu: Gpu, strategy: str) -> str | None:
    """The GPU's name under a strategy; None where it has none (a UUID nobody tells)."""
    if strategy == "index":
        return str(gpu.index)
    if strategy == "type-index":
        return f"gpu{gpu.index}"
    if strategy == "pci":
        return "pci-" + gpu.pci_address.replace(":", "-").replace(".", "-")
    return gpu.uuid


def mig_name(device: MigDevice, strategy: str) -> str | None:
    """The MIG device's name under a strategy; None where it has none (a PCI address)."""
    if strategy == "index":
        return f"{device.gpu_index}:{device.index}"
    if strategy == "type-index":
        return f"mig{device.gpu_index}:{device.index}"
    if strategy == "uuid":
        return device.uuid
    return None
