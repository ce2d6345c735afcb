# SPDX-License-Identifier: Apache-2.0
"""Compares a GPU with the driver, the kernel module, and the code for GPUs in an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdi_base import versions
from cdi_base.findings import Finding
from cdi_gen.compat import data, device_code
from cdi_gen.compat.data import Architecture, Pair
from cdi_gen.compat.driver_rules import MINOR_VERSION, Outcome
from cdi_gen.compat.facts import HostFacts, HostGpu, ImageFacts

MAX_PATHS = 3
"""The largest number of paths in a message."""


def driver_fault(gpu: HostGpu, driver: int, kernel_module: str | None) -> Finding | None:
    """Return why the driver does not drive the GPU, whatever the image; None if it may.

    Args:
        gpu: with its compute capability; an unknown one is no fault.
        driver: the branch of the driver.
        kernel_module: ``open``, ``proprietary``, or another word, which is not compared.
    """
    architecture = _architecture(gpu)
    if architecture is None:
        return None
    last = architecture.last_driver
    if last is not None and driver > last:
        return Finding(
            "CDG-M012",
            "error",
            f"{_title(gpu, architecture)}: R{last} is the last driver for it, the host has "
            f"R{driver}",
            fix=f"install a driver of branch {last}",
        )
    if (
        kernel_module in {"open", "proprietary"}
        and kernel_module not in architecture.kernel_modules
    ):
        needed = architecture.kernel_modules[0]
        return Finding(
            "CDG-M013",
            "error",
            f"{_title(gpu, architecture)}: only the {needed} kernel module drives it, the host "
            f"has the {kernel_module} one",
            fix=f"install the {needed} kernel module of the driver",
        )
    return None


def fault(image: ImageFacts, host: HostFacts, gpu: HostGpu, outcome: Outcome) -> Finding | None:
    """Return why the GPU cannot run the image; None if no known fact speaks against it."""
    driver = versions.parse(host.driver or "")
    if driver is not None:
        finding = driver_fault(gpu, driver[0], host.kernel_module)
        if finding is not None:
            return finding
    capability = data.pair(gpu.capability or "")
    if capability is None:
        return None
    return _toolkit_fault(image, gpu, outcome) or _code_fault(image, gpu, capability)


def remarks(image: ImageFacts, gpu: HostGpu, toolkit: Pair, outcome: Outcome) -> Iterator[Finding]:
    """Yield what does not work on a GPU that can run the image, and what was not compared."""
    capability = data.pair(gpu.capability or "")
    if capability is None:
        message = f"{gpu.name} was not compared with the image: its compute capability is unknown"
        yield Finding("CDG-M018", "info", message)
        return
    title = f"compute capability {gpu.capability}"
    architecture = data.architecture(capability)
    if architecture is not None and toolkit < architecture.first_cuda:
        first = data.text(architecture.first_cuda)
        yield Finding(
            "CDG-M017",
            "warning",
            f"{title}: CUDA {first} is the first toolkit for it, the image has {image.cuda}: only "
            "code with PTX runs, after the driver has compiled it",
            fix=f"use an image with CUDA {first} or newer",
        )
    paths: dict[str, list[str]] = {}
    for code in image.device_code:
        paths.setdefault(device_code.support(code, capability), []).append(code.path)
    if device_code.NOTHING in paths:
        yield Finding(
            "CDG-M016",
            "warning",
            f"{title}: no code for it in {_list(paths[device_code.NOTHING])}",
            fix="use an image that was built for this GPU, if its program needs the library",
        )
    if device_code.PTX in paths:
        yield _only_ptx(title, _list(paths[device_code.PTX]), toolkit, outcome)


def _only_ptx(title: str, paths: str, toolkit: Pair, outcome: Outcome) -> Finding:
    if outcome.kind == MINOR_VERSION:
        return Finding(
            "CDG-M007",
            "error",
            f"{title}: only PTX for it in {paths}; this driver cannot compile PTX of CUDA "
            f"{data.text(toolkit)}",
            fix="use a newer driver, or libraries with machine code for this GPU",
        )
    message = f"{title}: only PTX for it in {paths}, which the driver compiles at the first start"
    return Finding("CDG-M017", "info", message)


def _toolkit_fault(image: ImageFacts, gpu: HostGpu, outcome: Outcome) -> Finding | None:
    architecture = _architecture(gpu)
    if architecture is None:
        return None
    title = _title(gpu, architecture)
    last_driver, last_cuda = architecture.last_driver, architecture.last_cuda
    library = outcome.library and versions.parse(outcome.library.version or "")
    if library and last_driver is not None and library[0] > last_driver:
        return Finding(
            "CDG-M012",
            "error",
            f"{title}: R{last_driver} is the last driver for it, the image's libcuda is of "
            f"R{library[0]}",
            fix=f"use an image with CUDA {last_cuda}",
        )
    toolkit = data.pair(image.cuda or "")
    if last_cuda is not None and toolkit is not None and toolkit[0] > last_cuda:
        return Finding(
            "CDG-M014",
            "error",
            f"{title}: CUDA {last_cuda} is the last toolkit with code for it, the image has CUDA "
            f"{image.cuda}",
            fix=f"use an image with CUDA {last_cuda}",
        )
    return None


def _code_fault(image: ImageFacts, gpu: HostGpu, capability: Pair) -> Finding | None:
    without = [
        code.path
        for code in image.device_code
        if code.complete and device_code.support(code, capability) == device_code.NOTHING
    ]
    if not without or len(without) < len(image.device_code):
        return None
    return Finding(
        "CDG-M016",
        "error",
        f"{gpu.name}: no code for compute capability {gpu.capability} in any library that was "
        f"read: {_list(without)}",
        fix="use an image that was built for this GPU",
    )


def _architecture(gpu: HostGpu) -> Architecture | None:
    capability = data.pair(gpu.capability or "")
    return None if capability is None else data.architecture(capability)


def _title(gpu: HostGpu, architecture: Architecture) -> str:
    return f"{gpu.name}: {architecture.name}, compute capability {gpu.capability}"


def _list(paths: Sequence[str]) -> str:
    text = ", ".join(paths[:MAX_PATHS])
    return text if len(paths) <= MAX_PATHS else f"{text} and {len(paths) - MAX_PATHS} more"
