# SPDX-License-Identifier: Apache-2.0
"""A GPU's brand, told by its model's name: what procfs says without NVML, which takes its time.

The words are those of NVIDIA_REQUIRE_CUDA, the classes NVML's nvmlBrandType_t.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdi_gen.inventory import Gpu

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
