# SPDX-License-Identifier: Apache-2.0
"""Describes the GPUs of a host, also of one for which this version generates no specs.

Labels of nodes need model, memory and versions, and no files of the driver.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from cdi_base import trust
from cdi_gen.catalogue import pci_device_names
from cdi_gen.errors import NoDriverError
from cdi_gen.host import gather
from cdi_gen.host.devices import cuda, nvml_properties
from cdi_gen.host.devices.cuda import CudaUnavailable
from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.host.devices.nvml_properties import NvmlProperties
from cdi_gen.host.devices.passthrough import passthrough_gpus
from cdi_gen.host.platforms import UnsupportedPlatformError
from cdi_gen.host.properties import read_properties
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where, roots
from cdi_gen.inventory import PLATFORMS, TEGRA, VFIO, WSL, Driver, Gpu, Inventory
from cdi_gen.inventory.properties import Properties

AUTO, BY_NVML, BY_CUDA, BY_SYSFS = "auto", "nvml", "tegra", "vfio"
"""What is asked about the GPUs, with the words of NVIDIA's programs. ``auto``: CUDA on Tegra, else
NVML; ``vfio``: sysfs, about the GPUs that are passed through to virtual machines."""

UNKNOWN_DEVICE = "UNKNOWN_DEVICE"
"""The name of a GPU that the PCI ID Repository does not have, as NVIDIA's programs write it."""

NVML, LIBCUDA = "libnvidia-ml.so.1", "libcuda.so.1"

LIBRARY_DIRECTORIES = {
    WSL: ("usr/lib/wsl/lib", "usr/lib/wsl/drivers/*"),
    TEGRA: tuple(f"usr/lib/aarch64-linux-gnu{name}" for name in ("/nvidia", "/tegra", "")),
}
"""Where the driver of a platform has its libraries."""

Answers = TypeVar("Answers")


class Description(NamedTuple):
    """The GPUs of a host. The inventory of an unsupported platform has no files of the driver."""

    inventory: Inventory
    properties: Properties


def describe(where: Where, discovery: str = AUTO) -> Description:
    """Return a description of the GPUs of a host.

    Args:
        where: where to search.
        discovery: what is asked: `AUTO`, `BY_NVML`, `BY_CUDA` or `BY_SYSFS`.

    Raises:
        NoDriverError: no driver is loaded.
        CdiGenError: the GPUs cannot be described.
    """
    directories = roots(where)
    if discovery == BY_SYSFS:
        return _by_sysfs(directories)
    if discovery == BY_CUDA:
        return _by_cuda(directories)
    try:
        inventory = gather(where)
    except UnsupportedPlatformError as error:
        if error.platform == TEGRA and discovery == AUTO:
            return _by_cuda(directories)
        return _by_nvml(directories, error.platform)
    return Description(inventory, read_properties(inventory, directories))


def _by_sysfs(directories: Roots) -> Description:
    names = pci_device_names()
    gpus = tuple(
        Gpu(
            index=index,
            uuid=None,
            pci_address=gpu.pci_address,
            model=names.get(gpu.device, UNKNOWN_DEVICE),
        )
        for index, gpu in enumerate(passthrough_gpus(directories.host))
    )
    return _description(VFIO, gpus, directories, nvml_properties.Answers())


def _by_cuda(directories: Roots) -> Description:
    answers = _first_answers(directories, TEGRA, LIBCUDA, cuda.ask, CudaUnavailable)
    gpus = tuple(
        Gpu(index=index, uuid=None, model=gpu.name) for index, gpu in enumerate(answers.gpus)
    )
    properties = {
        index: NvmlProperties(
            product=gpu.name,
            memory_mib=gpu.memory_mib,
            compute_capability=gpu.compute_capability,
        )
        for index, gpu in enumerate(answers.gpus)
    }
    given = nvml_properties.Answers(gpus=properties, cuda_version=answers.cuda_version)
    return _description(TEGRA, gpus, directories, given)


def _by_nvml(directories: Roots, platform: str) -> Description:
    """Return the GPUs that NVML lists, for a platform whose kernel does not list them."""

    def ask(library: str) -> tuple[nvml_properties.Listed, nvml_properties.Answers]:
        listed = nvml_properties.list_gpus(library)
        return listed, nvml_properties.ask(library, listed.gpus, ())

    listed, answers = _first_answers(directories, platform, NVML, ask, NvmlUnavailable)
    return _description(platform, listed.gpus, directories, answers, listed.driver)


def _description(
    platform: str,
    gpus: tuple[Gpu, ...],
    directories: Roots,
    answers: nvml_properties.Answers,
    driver: Driver | None = None,
) -> Description:
    inventory = Inventory(
        platform=platform, architecture=os.uname().machine, driver=driver, gpus=gpus
    )
    return Description(inventory, read_properties(inventory, directories, answers))


def _first_answers(
    directories: Roots,
    platform: str,
    name: str,
    ask: Callable[[str], Answers],
    unavailable: type[Exception],
) -> Answers:
    """Return the answers of the first library of this name that can be used.

    Raises:
        NoDriverError: there is none.
    """
    faults = []
    for library in _libraries(directories, platform, name):
        try:
            return ask(library)
        except unavailable as error:  # noqa: PERF203 - there are a few libraries
            faults.append(str(error))
    places = ", ".join(f"/{directory}" for directory in LIBRARY_DIRECTORIES[platform])
    raise NoDriverError(
        f"no {name} of {PLATFORMS[platform]} can be used: "
        + ("; ".join(faults) or f"there is none in {places} that only root can change"),
        hint="install the driver of the platform; run a container with NVIDIA's runtime or with a "
        "CDI device, so that the loader finds the libraries that the library needs",
        code="CDG-H006",
    )


def _libraries(directories: Roots, platform: str, name: str) -> Iterator[str]:
    """Yield the paths of a library: in the driver root, then where a runtime injects it.

    A library of a mounted host may not load in a container, because the container's loader does not
    find the libraries that it needs.
    """
    searched = set()
    for root in (directories.driver, Root()):
        for directory in root.directories(LIBRARY_DIRECTORIES[platform]):
            try:
                path = root.open_path(root.resolve(f"{directory}/{name}"))
                if path in searched or (os.geteuid() == 0 and trust.fault(path)):
                    continue
            except OSError:
                continue
            searched.add(path)
            yield path
