# SPDX-License-Identifier: Apache-2.0
"""NVML, asked once and only for what procfs can not tell: MIG devices, and a UUID not yet known.

And for compute capability and brand, where an image's NVIDIA_REQUIRE_* are to be checked.
Initialising NVML takes 40 ms for each GPU of a large host, so a host of full GPUs never comes
here. The library is loaded by its path in the driver root, whatever LD_LIBRARY_PATH says; pynvml
itself asks for ``libnvidia-ml.so.1``, which the dynamic loader then finds already loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

_UUID = re.compile(r"(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_MIG_PROFILE = re.compile(r"\bMIG ((?:\d+c\.)?\d+g\.\d+gb(?:[+-][a-z.]+)*)", re.ASCII)


BRANDS = (
    "unknown", "quadro", "tesla", "nvs", "grid", "geforce", "titan", "vapps", "vpc", "vcs", "vws",
    "cloudgaming", "quadrortx", "nvidiartx", "nvidia", "geforcertx", "titanrtx",
)  # fmt: skip
"""In the words of ``NVIDIA_REQUIRE_CUDA``; the place is the number in nvmlBrandType_t."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """A MIG device as NVML enumerates it."""

    index: int
    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlGpu:
    """A GPU as NVML sees it; ``fault`` says why it can not be used."""

    uuid: str | None = None
    mig_enabled: bool = False
    mig: tuple[MigInstance, ...] = ()
    compute_capability: str | None = None
    brand: str | None = None
    fault: str | None = None


class NvmlUnavailable(Exception):  # noqa: N818 - a state of the host, not a fault of the program
    """NVML can not be asked at all."""


def ask(library: str, pci_addresses: tuple[str, ...]) -> dict[str, NvmlGpu]:
    """What NVML knows of these GPUs, by PCI address.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise.
    """
    import ctypes  # noqa: PLC0415 - as pynvml below

    try:
        ctypes.CDLL(library)
    except OSError as error:
        raise NvmlUnavailable(f"{library} does not load: {error}") from error
    import pynvml  # noqa: PLC0415 - takes 20 ms, and most hosts never need it

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailable(f"NVML does not initialise: {error}") from error
    try:
        return {address: _gpu(pynvml, address) for address in pci_addresses}
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml: Any, address: str) -> NvmlGpu:
    try:
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
        uuid = _checked(pynvml.nvmlDeviceGetUUID(handle))
    except (pynvml.NVMLError, ValueError) as error:
        return NvmlGpu(fault=str(error))
    gpu = NvmlGpu(
        uuid=uuid,
        compute_capability=_compute_capability(pynvml, handle),
        brand=_brand(pynvml, handle),
    )
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError:
        return gpu  # not a MIG-capable GPU: NVML_ERROR_NOT_SUPPORTED
    if current != pynvml.NVML_DEVICE_MIG_ENABLE:
        return gpu
    try:
        instances = tuple(_mig_instances(pynvml, handle))
    except (pynvml.NVMLError, ValueError) as error:
        return replace(gpu, mig_enabled=True, fault=f"its MIG devices: {error}")
    return replace(gpu, mig_enabled=True, mig=instances)


def _compute_capability(pynvml: Any, gpu: Any) -> str | None:
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(gpu)
    except pynvml.NVMLError:
        return None
    return f"{major}.{minor}"


def _brand(pynvml: Any, gpu: Any) -> str | None:
    try:
        number = pynvml.nvmlDeviceGetBrand(gpu)
    except pynvml.NVMLError:
        return None
    # What is newer than the list is unknown to libnvidia-container too, and called so.
    return BRANDS[number if 0 <= number < len(BRANDS) else 0]


def _mig_instances(pynvml: Any, gpu: Any) -> Iterator[MigInstance]:
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except pynvml.NVMLError_NotFound:
            continue  # indices have gaps after an instance was destroyed
        profile = _MIG_PROFILE.search(pynvml.nvmlDeviceGetName(handle))
        yield MigInstance(
            index=index,
            uuid=_checked(pynvml.nvmlDeviceGetUUID(handle)),
            gpu_instance=pynvml.nvmlDeviceGetGpuInstanceId(handle),
            compute_instance=pynvml.nvmlDeviceGetComputeInstanceId(handle),
            profile=profile[1] if profile else "",
        )


def _checked(uuid: str) -> str:
    if not _UUID.fullmatch(uuid):
        raise ValueError(f"a UUID of unknown form: {uuid!r}")
    return uuid
