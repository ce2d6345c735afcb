# SPDX-License-Identifier: Apache-2.0
"""Asks the driver's libcuda for the GPUs of a Tegra platform, whose NVML does not report them."""

from __future__ import annotations

from typing import Any, NamedTuple

CUDA_SUCCESS = 0
COMPUTE_CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
NAME_LENGTH = 96


class CudaUnavailable(Exception):  # noqa: N818 - a state of the host, not a fault of the program
    """libcuda cannot be loaded or initialised."""


class CudaGpu(NamedTuple):
    """A GPU as CUDA reports it."""

    name: str
    memory_mib: int
    compute_capability: str
    """``8.7``."""


class Answers(NamedTuple):
    """CUDA's answers about a host."""

    gpus: tuple[CudaGpu, ...]
    cuda_version: str
    """The newest version that the driver supports: ``12.6``."""


def ask(library: str) -> Answers:
    """Return CUDA's answers. ``cuInit`` opens the GPU, so this belongs into a short process.

    Raises:
        CudaUnavailable: the library does not load, or does not initialise.
    """
    import ctypes  # noqa: PLC0415 - most hosts never need it

    try:
        loaded = ctypes.CDLL(library)
        cuda = _Cuda(loaded)
        cuda.call("cuInit", 0)
        count, version = ctypes.c_int(), ctypes.c_int()
        cuda.call("cuDeviceGetCount", ctypes.byref(count))
        cuda.call("cuDriverGetVersion", ctypes.byref(version))
        gpus = tuple(_gpu(cuda, index) for index in range(count.value))
    except OSError as error:
        raise CudaUnavailable(f"{library} does not load: {error}") from error
    except AttributeError as error:
        raise CudaUnavailable(f"{library} is not a libcuda: {error}") from error
    return Answers(gpus, f"{version.value // 1000}.{version.value % 1000 // 10}")


class _Cuda:
    """The functions of a loaded libcuda."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != CUDA_SUCCESS:
            raise CudaUnavailable(f"CUDA does not answer: {function} returns error {code}")


def _gpu(cuda: _Cuda, index: int) -> CudaGpu:
    import ctypes  # noqa: PLC0415 - as above

    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(NAME_LENGTH)
    cuda.call("cuDeviceGet", ctypes.byref(device), index)
    cuda.call("cuDeviceGetName", name, NAME_LENGTH, device)
    # The function without _v2 returns 32 bits.
    cuda.call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    numbers = [ctypes.c_int(), ctypes.c_int()]
    for number, attribute in zip(numbers, COMPUTE_CAPABILITY, strict=True):
        cuda.call("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    return CudaGpu(
        name=name.value.decode("ascii", "replace"),
        memory_mib=memory.value >> 20,
        compute_capability=".".join(str(number.value) for number in numbers),
    )
