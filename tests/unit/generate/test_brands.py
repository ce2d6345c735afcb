# SPDX-License-Identifier: Apache-2.0
"""Brands by names of models, as NVML tells them of the same GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_base import nvidia
from cdi_gen.generate.requirements import brand, brands
from cdi_gen.inventory import json_form
from tests.host.looking import REPOSITORY

MODELS = {
    "NVIDIA A100-SXM4-40GB": "nvidia",
    "NVIDIA A10-24Q": "nvidia",
    "NVIDIA A2": "nvidia",
    "NVIDIA B200": "nvidia",
    "NVIDIA GB200": "nvidia",
    "NVIDIA GH200 480GB": "nvidia",
    "NVIDIA H100 80GB HBM3": "nvidia",
    "NVIDIA H200": "nvidia",
    "NVIDIA L4": "nvidia",
    "NVIDIA L40S": "nvidia",
    "A100-PCIE-40GB": "nvidia",
    "Tesla T4": "tesla",
    "Tesla V100-SXM2-16GB": "tesla",
    "GeForce GTX 1080 Ti": "geforce",
    "NVIDIA GeForce RTX 4090": "geforce",
    "NVIDIA GeForce RTX 3070 Laptop GPU": "geforce",
    "NVIDIA TITAN RTX": "titan",
    "TITAN V": "titan",
    "GeForce GTX TITAN X": "geforce",
    "Quadro P2000": "quadro",
    "Quadro RTX 6000": "quadrortx",
    "NVIDIA RTX A6000": "nvidiartx",
    "NVIDIA RTX 6000 Ada Generation": "nvidiartx",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "nvidiartx",
    "NVIDIA T1000 8GB": "nvidiartx",
}

NOT_TOLD = (
    "", "NVIDIA", "NVIDIA ", "NVIDIA Graphics Device", "NVIDIA PG506-232", "NVIDIA CMP 170HX", "Unknown",
    "NVIDIA A", "NVIDIA ABC100", "NVIDIA LAB1", "GRID K1", "Orin (nvgpu)", "nvidia h100",
)  # fmt: skip


@pytest.mark.parametrize(("model", "expected"), MODELS.items())
def test_models(model: str, expected: str) -> None:
    assert brand(model) == expected


@pytest.mark.parametrize("model", NOT_TOLD)
def test_names_that_do_not_tell(model: str) -> None:
    """Nothing is better than a guess: the hook then goes by the versions alone."""
    assert brand(model) is None


def test_the_hook_knows_every_brand() -> None:
    """Another word would be wrong usage, and no container would start."""
    assert set(MODELS.values()) <= set(nvidia.BRANDS)


def test_of_several_gpus() -> None:
    path = REPOSITORY / "specs/golden/flat-550-1gpu/inventory.json"
    (gpu,) = json_form.load(path.read_text(encoding="utf-8")).gpus
    models = ("Tesla T4", "NVIDIA H200", "NVIDIA Graphics Device", "NVIDIA H100 PCIe")
    assert brands(replace(gpu, model=model) for model in models) == ["nvidia", "tesla"]
    assert brands([]) == []
