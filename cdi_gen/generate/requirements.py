# SPDX-License-Identifier: Apache-2.0
"""Facts of the host for the requirements of images (``NVIDIA_REQUIRE_*``).

The hook gets the facts as options, the runtime shim as a JSON object. If the inventory has no CUDA
version of libcuda's or no brand of NVML's, the CUDA version follows from the driver's branch, the
brand from the model's name, in the words of NVML's nvmlBrandType_t.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cdi_gen.catalogue import catalogue
from cdi_gen.inventory import Gpu, Inventory

_BRANDS = (
    ("geforce", ("GeForce",)),
    ("titan", ("TITAN", "Titan")),
    ("quadrortx", ("Quadro RTX",)),
    ("quadro", ("Quadro",)),
    ("tesla", ("Tesla",)),
    ("nvidiartx", ("RTX", "T400", "T500", "T600", "T1000")),
)
"""(brand, beginnings of model names). The first entry that fits a name applies."""

_DATA_CENTRE_LETTERS = ("A", "B", "GB", "GH", "H", "L")
"""Letters before the number of a data centre GPU: A100, B200, GB200, GH200, H200, L40S."""


def facts(inventory: Inventory) -> dict[str, Any]:
    """Return the facts as ``cdi_base.requirement.Facts.from_document`` reads them.

    ``cdi-gen runtime prepare`` gathers the inventory with ``Where(requirement_facts=True)``.

    Returns:
        ``{"cuda": "13.0", "driver": "580.95.05", "gpus": [{"index": 0, "minor": 0, "uuid":
        "GPU-…", "arch": "9.0", "brand": "nvidia"}]}``; None for an unknown fact.
    """
    return {
        "cuda": cuda_version(inventory),
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


def hook_options(inventory: Inventory, versions: Sequence[str] | None = None) -> list[str]:
    """Return the facts as options of the hook's step check-requirements.

    Args:
        inventory: gathered with ``Where(requirement_facts=True)``.
        versions: the options that give the hook the driver's versions; None: the versions.
    """
    if versions is None:
        cuda = cuda_version(inventory)
        versions = [
            *([f"--host-cuda-version={cuda}"] if cuda else []),
            f"--host-driver-version={inventory.require_driver().version}",
        ]
    return [
        *versions,
        # The hook identifies the container's GPUs by the minor numbers of their nodes.
        *(
            f"--gpu={gpu.minor}:{gpu.compute_capability or ''}:{_brand(gpu) or ''}"
            for gpu in inventory.gpus
            if gpu.minor is not None
        ),
    ]


def brand(model: str) -> str | None:
    """Return the brand of a model (`NVIDIA H200`); None if the name does not show the brand.

    A vGPU gets the brand of its GPU, because it has the name of its GPU. NVML would report the
    brand of the vGPU's licence.
    """
    name = model.removeprefix("NVIDIA ")
    for brand_name, beginnings in _BRANDS:
        if name.startswith(beginnings):
            return brand_name
    letters = name[: len(name) - len(name.lstrip("ABGHL"))]
    if letters in _DATA_CENTRE_LETTERS and name[len(letters) :][:1].isdigit():
        return "nvidia"
    return None


def brands(gpus: Iterable[Gpu]) -> list[str]:
    """Return the brands of the GPUs, sorted, each once, without unknown brands."""
    return sorted({brand_name for gpu in gpus if (brand_name := brand(gpu.model))})


def cuda_version(inventory: Inventory) -> str | None:
    """Return the newest CUDA version that the host's libcuda runs; None if it is not known."""
    driver = inventory.require_driver()
    branch = driver.version.partition(".")[0]
    return driver.cuda_version or catalogue().cuda_versions.get(branch)


def _brand(gpu: Gpu) -> str | None:
    return gpu.brand or brand(gpu.model)
