# SPDX-License-Identifier: Apache-2.0
"""Takes the facts of a host for a verdict from its inventory."""

from __future__ import annotations

from cdi_gen.compat import data
from cdi_gen.compat.facts import HostFacts, HostGpu
from cdi_gen.generate import requirements
from cdi_gen.inventory import Gpu, Inventory


def host_facts(inventory: Inventory, name: str = "") -> HostFacts:
    """Return the facts of a host.

    A compute capability that NVML did not report follows from the model's name.

    Args:
        inventory: of the host.
        name: of the host in tables.
    """
    driver = inventory.driver
    if driver is None:
        return HostFacts(name=name, architecture=inventory.architecture)
    facts = requirements.facts(inventory)
    brands = [gpu["brand"] for gpu in facts["gpus"]]
    return HostFacts(
        name=name,
        driver=driver.version,
        cuda=facts["cuda"],
        kernel_module=driver.kernel_module,
        architecture=inventory.architecture,
        gpus=tuple(map(_gpu, inventory.gpus, brands)),
    )


def _gpu(gpu: Gpu, brand: str | None) -> HostGpu:
    capability = gpu.compute_capability
    if capability is None:
        number = data.model_capability(gpu.model)
        capability = None if number is None else data.text(number)
    return HostGpu(name=f"GPU {gpu.index} ({gpu.model})", capability=capability, brand=brand)
