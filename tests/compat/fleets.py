# SPDX-License-Identifier: Apache-2.0
"""Fleets of any size for tests and measurements: equal numbers give equal fleets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from cdi_gen.compat.facts import CompatLibrary, HostFacts, HostGpu, ImageFacts
from tests.host.looking import REPOSITORY

GOLDEN = REPOSITORY / "specs/golden/hgx-550-8gpu/inventory.json"

DRIVERS = {
    "580.95.05": "13.0",
    "570.172.08": "12.8",
    "550.163.01": "12.4",
    "535.261.03": "12.2",
    "590.44.01": "13.1",
    "525.147.05": "12.0",
    "470.256.02": "11.4",
    "595.45.04": "13.2",
    "450.248.02": "11.0",
    "610.43.02": "13.3",
    "565.57.01": "12.7",
    "560.35.05": "12.6",
}
"""The newest CUDA version of each driver."""


class Model(NamedTuple):
    """A model of GPU."""

    name: str
    capability: str
    brand: str


MODELS = (
    Model("NVIDIA H100 80GB HBM3", "9.0", "nvidia"),
    Model("NVIDIA A100-SXM4-80GB", "8.0", "nvidia"),
    Model("NVIDIA L40S", "8.9", "nvidia"),
    Model("Tesla T4", "7.5", "tesla"),
    Model("NVIDIA GeForce RTX 4090", "8.9", "geforce"),
    Model("Tesla P40", "6.1", "tesla"),
    Model("NVIDIA B200", "10.0", "nvidia"),
)

REQUIRE = (
    "cuda>={cuda} brand=unknown,driver>=470,driver<471 brand=tesla,driver>=470,driver<471 "
    "brand=nvidia,driver>=535,driver<536 brand=tesla,driver>=535,driver<536"
)

VERSIONS = ("12.8.1", "13.0.2", "12.4.1", "11.8.0", "13.1.0", "12.2.2", "12.6.3", "13.2.0", "10.2")
FLAVOURS = ("base-ubuntu24.04", "runtime-ubuntu22.04", "devel-ubi9", "cudnn-devel-ubuntu24.04")
PROJECTS = ("nvidia/cuda", "pytorch/pytorch", "vllm/vllm-openai", "registry.example/ml/training")


class Kind(NamedTuple):
    """A driver and a model of GPU."""

    driver: str
    model: Model


def kinds(number: int) -> list[Kind]:
    """The first so many pairs of driver and GPU, in an order that mixes both.

    After all pairs come pairs with drivers of other versions in the same branches.
    """
    pairs = sorted(
        (place + 2 * index, driver, model)
        for (place, driver), (index, model) in product(enumerate(DRIVERS), enumerate(MODELS))
    )
    rounds = range(number // len(pairs) + 1)
    return [
        Kind(f"{driver}{f'.{each}' if each else ''}", model)
        for each in rounds
        for _, driver, model in pairs
    ][:number]


def cuda_of(driver: str) -> str:
    """The newest CUDA version of a driver."""
    return DRIVERS[".".join(driver.split(".")[:3])]


def hosts(number: int, number_of_kinds: int) -> Iterator[HostFacts]:
    """Hosts, of so many kinds in turns."""
    for name, kind, count in _hosts(number, number_of_kinds):
        gpu = HostGpu(
            name=kind.model.name, capability=kind.model.capability, brand=kind.model.brand
        )
        yield HostFacts(
            name=name,
            driver=kind.driver,
            cuda=cuda_of(kind.driver),
            kernel_module="open" if kind.model.capability >= "7.5" else "proprietary",
            architecture="x86_64",
            gpus=(gpu,) * count,
        )


def _hosts(number: int, number_of_kinds: int) -> Iterator[tuple[str, Kind, int]]:
    choice = kinds(number_of_kinds)
    for index in range(number):
        name = f"rack{index // 40 + 1:02}-node{index % 40 + 1:02}"
        yield name, choice[index % len(choice)], 8 if index % 3 else 4


def images(number: int) -> Iterator[ImageFacts]:
    """Images; all have a name and a requirement of their own, some a compat libcuda."""
    for index in range(number):
        version = VERSIONS[index % len(VERSIONS)]
        project = PROJECTS[index // len(VERSIONS) % len(PROJECTS)]
        build = index // (len(VERSIONS) * len(PROJECTS))
        cuda = ".".join(version.split(".")[:2])
        compat = CompatLibrary(
            path="/usr/local/cuda/compat/libcuda.so.575.57.08", version="575.57.08"
        )
        yield ImageFacts(
            name=f"{project}:{version}-{FLAVOURS[build % 4]}{f'-r{build}' if build else ''}",
            digest=f"sha256:{index:064x}",
            architecture="amd64",
            cuda=version,
            cuda_source="CUDA_VERSION",
            requirements=(("NVIDIA_REQUIRE_CUDA", REQUIRE.format(cuda=cuda)),),
            compat=(compat,) if version == "12.8.1" else (),
        )


def write_inventories(directory: Path, number: int, number_of_kinds: int) -> None:
    """Write the inventory of each host: those of hosts with eight GPUs have 25 KB."""
    golden = json.loads(GOLDEN.read_text("utf-8"))
    for name, kind, count in _hosts(number, number_of_kinds):
        document = golden | {"driver": golden["driver"] | _driver(kind)}
        document["gpus"] = [
            gpu | _gpu(kind.model) | {"uuid": f"GPU-{name}-{gpu['index']}"}
            for gpu in golden["gpus"][:count]
        ]
        (directory / f"{name}.json").write_text(json.dumps(document, indent=1), "utf-8")


def _driver(kind: Kind) -> dict[str, Any]:
    return {
        "version": kind.driver,
        "libraryVersion": kind.driver,
        "cudaVersion": cuda_of(kind.driver),
        "kernelModule": "open" if kind.model.capability >= "7.5" else "proprietary",
    }


def _gpu(model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "computeCapability": model.capability,
        "brand": model.brand,
    }
