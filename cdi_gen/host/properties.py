# SPDX-License-Identifier: Apache-2.0
"""Reads the properties of GPUs that a scheduler chooses by, from sysfs and NVML."""

from __future__ import annotations

from cdi_base.files import read_beginning
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots
from cdi_gen.inventory import Gpu, Inventory
from cdi_gen.inventory.properties import GpuProperties, Properties


def read_properties(inventory: Inventory, roots: Roots) -> Properties:
    """Return the properties of the GPUs in the inventory; what cannot be read is None."""
    return Properties(gpus=tuple(_gpu(gpu, roots.host) for gpu in inventory.gpus))


def _gpu(gpu: Gpu, host: Root) -> GpuProperties:
    numa_node = _number(host, gpu, "numa_node", 10)
    pci_class = _number(host, gpu, "class", 16)
    return GpuProperties(
        index=gpu.index,
        uuid=gpu.uuid,
        # The kernel writes -1 for a machine with one node.
        numa_node=None if numa_node is None or numa_node < 0 else numa_node,
        pci_class=None if pci_class is None else pci_class >> 8,
        compute_capability=gpu.compute_capability,
        mig_capable=gpu.mig_enabled,
    )


def _number(host: Root, gpu: Gpu, name: str, base: int) -> int | None:
    if gpu.pci_address is None:
        return None
    path = host.open_path(f"/sys/bus/pci/devices/{gpu.pci_address}/{name}")
    try:
        return int(read_beginning(path, 64).decode("ascii"), base)
    except (OSError, ValueError):
        return None
