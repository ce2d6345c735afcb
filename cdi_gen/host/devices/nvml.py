# SPDX-License-Identifier: Apache-2.0
"""Asks NVML for facts that procfs does not have: MIG devices, unknown UUIDs, requirement facts.

The requirement facts are compute capability and brand, for an image's NVIDIA_REQUIRE_*. The module
loads the library by its path in the driver root, independent of LD_LIBRARY_PATH, and passes it to
pynvml, which would load the library of this process's root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from cdi_base import nvidia, trust
from cdi_gen.host.devices.mig_mode import NvmlUnavailable, failed

MIG_PROFILE = re.compile(r"\bMIG ((?:\d+c\.)?\d+g\.\d+gb(?:[+-][a-z.]+)*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """A MIG device as NVML enumerates it."""

    index: int
    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: str


class PynvmlMissing(NvmlUnavailable):
    """The Python module pynvml is not installed or too old; NVML itself may work."""


class NvmlGpu(NamedTuple):
    """NVML's facts about a GPU; ``fault`` says why the GPU cannot be used."""

    uuid: str | None = None
    mig_enabled: bool = False
    mig_mode_unknown: str | None = None
    """Why NVML does not report whether MIG is enabled."""
    mig: tuple[MigInstance, ...] = ()
    mig_faults: tuple[tuple[int, str], ...] = ()
    """(index, reason) of MIG devices whose facts NVML cannot report."""
    compute_capability: str | None = None
    brand: str | None = None
    fault: str | None = None


def ask(library: str, pci_addresses: tuple[str, ...]) -> dict[str, NvmlGpu]:
    """Return NVML's facts about these GPUs, by PCI address.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise.
        PynvmlMissing: the Python module, which is optional, is not installed or too old.
    """
    with initialised(library) as pynvml:
        return {address: _gpu(pynvml, address) for address in pci_addresses}


@contextmanager
def initialised(library: str) -> Iterator[Any]:
    """Load NVML by its path and initialise it; yield the module pynvml that uses it.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise, or a user other than
            root could change it, and this process is root.
        PynvmlMissing: the Python module, which is optional, is not installed or too old.
    """
    import ctypes  # noqa: PLC0415 - as pynvml below

    if os.geteuid() == 0 and (reason := trust.fault(library)):
        raise NvmlUnavailable(f"root does not load {library}: {reason}")
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        raise NvmlUnavailable(f"{library} does not load: {error}") from error
    try:
        import pynvml  # noqa: PLC0415 - takes 20 ms, and most hosts never need it
    except ModuleNotFoundError as error:
        raise PynvmlMissing(
            "the Python module pynvml is not installed; install the package python3-pynvml "
            "(Debian, Ubuntu) or nvidia-ml-py (PyPI)"
        ) from error
    except (ImportError, SyntaxError) as error:
        raise PynvmlMissing(f"the Python module pynvml cannot be imported: {error}") from error
    if not hasattr(pynvml, "nvmlDeviceGetMigDeviceHandleByIndex"):
        # Ubuntu 22.04 packages 7.352.
        raise PynvmlMissing(
            "the Python module pynvml is too old to know MIG; install nvidia-ml-py 11.450 or "
            "newer (PyPI)"
        )
    pynvml.nvmlLib = loaded
    # The cache may have functions of the library of another driver root.
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - there is no other way
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailable(f"NVML does not initialise: {error}") from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml: Any, address: str) -> NvmlGpu:
    try:
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
        uuid = _checked(text(pynvml.nvmlDeviceGetUUID(handle)))
    except (pynvml.NVMLError, ValueError) as error:
        return NvmlGpu(fault=str(error))
    gpu = NvmlGpu(
        uuid=uuid,
        compute_capability=_compute_capability(pynvml, handle),
        brand=_brand(pynvml, handle),
    )
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        mode = failed(error.value, str(error))
        return gpu._replace(fault=mode.fault, mig_mode_unknown=mode.unknown)
    if current != pynvml.NVML_DEVICE_MIG_ENABLE:
        return gpu
    gpu = gpu._replace(mig_enabled=True)
    try:
        count = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except pynvml.NVMLError as error:
        return gpu._replace(fault=f"NVML does not list the MIG devices: {error}")
    answers = [_mig_instance(pynvml, handle, index) for index in range(count)]
    return gpu._replace(
        mig=tuple(answer for answer in answers if isinstance(answer, MigInstance)),
        mig_faults=tuple(
            (index, answer) for index, answer in enumerate(answers) if isinstance(answer, str)
        ),
    )


def _compute_capability(pynvml: Any, handle: Any) -> str | None:
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    except pynvml.NVMLError:
        return None
    return f"{major}.{minor}"


def _brand(pynvml: Any, handle: Any) -> str | None:
    try:
        number = pynvml.nvmlDeviceGetBrand(handle)
    except pynvml.NVMLError:
        return None
    # A brand that is newer than the list is "unknown", as in libnvidia-container.
    return nvidia.BRANDS[number if number < len(nvidia.BRANDS) else 0]


def _mig_instance(pynvml: Any, gpu: Any, index: int) -> MigInstance | str | None:
    """Return the MIG device, why it cannot be used, or None if no device has this index."""
    try:
        handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        profile = MIG_PROFILE.search(text(pynvml.nvmlDeviceGetName(handle)))
        return MigInstance(
            index=index,
            uuid=_checked(text(pynvml.nvmlDeviceGetUUID(handle))),
            gpu_instance=pynvml.nvmlDeviceGetGpuInstanceId(handle),
            compute_instance=pynvml.nvmlDeviceGetComputeInstanceId(handle),
            profile=profile[1] if profile else "",
        )
    except pynvml.NVMLError_NotFound:
        return None  # indices have gaps after an instance was destroyed
    except (pynvml.NVMLError, ValueError) as error:
        return str(error)


def text(value: bytes | str) -> str:
    """Return NVML's text as str; nvidia-ml-py before 11.515 returns bytes."""
    return value.decode("ascii", errors="replace") if isinstance(value, bytes) else value


def _checked(uuid: str) -> str:
    if nvidia.uuid(uuid) != uuid:
        raise ValueError(f"the UUID has an unknown form: {uuid!r}")
    return uuid
