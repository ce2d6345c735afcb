# SPDX-License-Identifier: Apache-2.0
"""Reads which processes use the GPUs of the host."""

from __future__ import annotations

from cdi_gen.host.devices import nvml_processes
from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.host.devices.nvml_processes import NvmlProcess
from cdi_gen.host.driver.installed import open_path
from cdi_gen.host.where import Where, roots
from cdi_gen.inventory import Inventory

__all__ = ["NvmlProcess", "NvmlUnavailable", "gpu_processes"]


def gpu_processes(inventory: Inventory, where: Where) -> tuple[NvmlProcess, ...]:
    """Return the processes that NVML lists for the GPUs of the inventory.

    Raises:
        NvmlUnavailable: NVML is not installed, or cannot be used.
        CdiGenError: a directory of ``where`` does not exist.
    """
    library = open_path(roots(where).driver, inventory.libraries, "libnvidia-ml.so.")
    if library is None:
        raise NvmlUnavailable("libnvidia-ml is not installed")
    addresses = tuple(gpu.pci_address for gpu in inventory.gpus if gpu.pci_address is not None)
    return nvml_processes.ask(library, addresses)
