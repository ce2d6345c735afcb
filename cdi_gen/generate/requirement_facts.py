# SPDX-License-Identifier: Apache-2.0
"""What this host has of that which images ask for in ``NVIDIA_REQUIRE_*``.

For the hook as options, for the runtime shim as a JSON object. Where the inventory has no answer of
libcuda's and NVML's, since nobody asked them or they did not tell, the driver's branch tells the
CUDA version and the model's name the brand.
"""

from __future__ import annotations

from typing import Any

from cdi_gen.catalogue import catalogue
from cdi_gen.generate.brands import brand
from cdi_gen.inventory import Gpu, Inventory


def facts(inventory: Inventory) -> dict[str, Any]:
    """The facts as ``cdi_base.requirement.Facts.from_document`` reads them.

    ``cdi-gen runtime prepare`` calls it with an inventory that was gathered with
    ``Where(requirement_facts=True)``.

    Returns:
        ``{"cuda": "13.0", "driver": "580.95.05", "gpus": [{"index": 0, "minor": 0, "uuid":
        "GPU-…", "arch": "9.0", "brand": "nvidia"}]}``; None where something is not known.
    """
    return {
        "cuda": _cuda(inventory),
        "driver": inventory.require_driver().version,
        "gpus": [
            {
                "index": gpu.index,
                "minor": gpu.minor,
                "uuid": gpu.uuid,
                "arch": gpu.compute_capability,
                "brand": _brand(gpu),
            }
            for gpu in inventory.gpus
        ],
    }


def words(inventory: Inventory) -> list[str]:
    """The same as options of the hook's step check-requirements."""
    cuda = _cuda(inventory)
    return [
        *([f"--host-cuda-version={cuda}"] if cuda else []),
        f"--host-driver-version={inventory.require_driver().version}",
        # The hook knows the container's GPUs by the minor numbers of their nodes.
        *(
            f"--gpu={gpu.minor}:{gpu.compute_capability or ''}:{_brand(gpu) or ''}"
            for gpu in inventory.gpus
            if gpu.minor is not None
        ),
    ]


def _cuda(inventory: Inventory) -> str | None:
    driver = inventory.require_driver()
    branch = driver.version.partition(".")[0]
    return driver.cuda_version or catalogue().cuda_versions.get(branch)


def _brand(gpu: Gpu) -> str | None:
    return gpu.brand or brand(gpu.model)
