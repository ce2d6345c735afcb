# SPDX-License-Identifier: Apache-2.0
"""Facts of this host against which the requirements of images (``NVIDIA_REQUIRE_*``) are checked.

For the hook as options, for the runtime shim as a JSON object. Where the inventory has no answer of
libcuda's and NVML's, because nothing asked them or they did not answer, the driver's branch tells
the CUDA version and the model's name the brand, in the words of NVML's nvmlBrandType_t.
"""

from __future__ import annotations

from collections.abc import Iterable
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
"""In this order: the first whose words begin a name has it."""

_DATA_CENTRE = ("A", "B", "GB", "GH", "H", "L")
"""Before a number: A100, B200, GB200, GH200, H200, L40S."""


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


def brand(model: str) -> str | None:
    """The brand of a model (`NVIDIA H200`); None where the name does not tell.

    A vGPU's name is that of its GPU, and so is this; NVML would tell its licence.
    """
    name = model.removeprefix("NVIDIA ")
    for found, starts in _BRANDS:
        if name.startswith(starts):
            return found
    letters = name[: len(name) - len(name.lstrip("ABGHL"))]
    if letters in _DATA_CENTRE and name[len(letters) :][:1].isdigit():
        return "nvidia"
    return None


def brands(gpus: Iterable[Gpu]) -> list[str]:
    """The brands of the GPUs, each once; those whose names do not tell are left out."""
    return sorted({found for gpu in gpus if (found := brand(gpu.model))})


def _cuda(inventory: Inventory) -> str | None:
    driver = inventory.require_driver()
    branch = driver.version.partition(".")[0]
    return driver.cuda_version or catalogue().cuda_versions.get(branch)


def _brand(gpu: Gpu) -> str | None:
    return gpu.brand or brand(gpu.model)
