# SPDX-License-Identifier: Apache-2.0
"""NVML, asked once and only for what procfs cannot tell: MIG devices, and a UUID not yet known.

And for compute capability and brand, where an image's NVIDIA_REQUIRE_* are to be checked.
On an H200, NVML takes 1.6 ms to initialise and 6.5 ms for the handle of each GPU, more without
persistence mode; so the GPUs are asked side by side, which NVML allows (it is thread-safe). The
library is loaded by its path in the driver root, whatever LD_LIBRARY_PATH says; its few functions
are called through ctypes, for pynvml takes 20 ms to import.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

_UUID = re.compile(
    r"(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    # Drivers before 470: a MIG device by its GPU, GPU instance and compute instance.
    r"|MIG-GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/\d{1,6}/\d{1,6}",
    re.ASCII,
)
_MIG_PROFILE = re.compile(r"\bMIG ((?:\d+c\.)?\d+g\.\d+gb(?:[+-][a-z.]+)*)", re.ASCII)

SUCCESS, NOT_FOUND = 0, 6
"""Of nvmlReturn_t."""
MIG_ENABLED = 1
"""NVML_DEVICE_MIG_ENABLE."""
MAX_TEXT = 96
"""NVML_DEVICE_NAME_V2_BUFFER_SIZE and NVML_DEVICE_UUID_V2_BUFFER_SIZE."""

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
    """A GPU as NVML sees it; ``fault`` says why it cannot be used."""

    uuid: str | None = None
    mig_enabled: bool = False
    mig: tuple[MigInstance, ...] = ()
    mig_faults: tuple[tuple[int, str], ...] = ()
    """(index, why) of MIG devices that NVML cannot tell about."""
    compute_capability: str | None = None
    brand: str | None = None
    fault: str | None = None


class NvmlUnavailable(Exception):  # noqa: N818 - a state of the host, not a fault of the program
    """NVML cannot be asked at all."""


class NvmlError(Exception):
    """A function of NVML did not succeed; the text is NVML's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def ask(library: str, pci_addresses: tuple[str, ...]) -> dict[str, NvmlGpu]:
    """What NVML knows of these GPUs, by PCI address.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise.
    """
    nvml = _Nvml(library)
    try:
        nvml.call("nvmlInit_v2")
    except NvmlError as error:
        raise NvmlUnavailable(f"NVML does not initialise: {error}") from error
    try:
        return _side_by_side(nvml, pci_addresses)
    finally:
        nvml.call("nvmlShutdown")


def _side_by_side(nvml: _Nvml, pci_addresses: tuple[str, ...]) -> dict[str, NvmlGpu]:
    import threading  # noqa: PLC0415 - as ctypes below

    answers: dict[str, NvmlGpu] = {}

    def answer(address: str) -> None:
        answers[address] = _gpu(nvml, address)

    others = [threading.Thread(target=answer, args=(each,)) for each in pci_addresses[1:]]
    for thread in others:
        thread.start()
    for address in pci_addresses[:1]:
        answer(address)
    for thread in others:
        thread.join()
    return answers


class _Nvml:
    """The functions of one libnvidia-ml."""

    def __init__(self, library: str) -> None:
        import ctypes  # noqa: PLC0415 - takes 3 ms, and many hosts never need it

        self._ctypes = ctypes
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise NvmlUnavailable(f"{library} does not load: {error}") from error

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            NvmlError: it does not succeed, or this NVML does not have it.
        """
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NvmlError(-1, f"this libnvidia-ml has no {name}") from None
        code = function(*arguments)
        if code != SUCCESS:
            raise NvmlError(code, self._text_of(code))

    def number(self, name: str, device: Any) -> int:
        """What a function of a device puts into an unsigned int."""
        value = self._ctypes.c_uint()
        self.call(name, device, self._ctypes.byref(value))
        return value.value

    def numbers(self, name: str, device: Any) -> tuple[int, int]:
        """What a function of a device puts into two of them."""
        one, other = self._ctypes.c_uint(), self._ctypes.c_uint()
        self.call(name, device, self._ctypes.byref(one), self._ctypes.byref(other))
        return one.value, other.value

    def text(self, name: str, device: Any) -> str:
        """What a function of a device writes as text."""
        buffer = self._ctypes.create_string_buffer(MAX_TEXT)
        self.call(name, device, buffer, self._ctypes.c_uint(MAX_TEXT))
        return buffer.value.decode("ascii", errors="replace")

    def gpu(self, pci_address: str) -> Any:
        """The handle of a GPU; NVML looks at it now."""
        handle = self._ctypes.c_void_p()
        address = pci_address.encode()
        self.call("nvmlDeviceGetHandleByPciBusId_v2", address, self._ctypes.byref(handle))
        return handle

    def mig_device(self, gpu: Any, index: int) -> Any:
        """The handle of a MIG device of a GPU."""
        handle = self._ctypes.c_void_p()
        number = self._ctypes.c_uint(index)
        self.call("nvmlDeviceGetMigDeviceHandleByIndex", gpu, number, self._ctypes.byref(handle))
        return handle

    def _text_of(self, code: int) -> str:
        function = self._library.nvmlErrorString
        function.restype = self._ctypes.c_char_p
        text: bytes = function(code) or b""
        return text.decode("ascii", errors="replace") or f"error {code}"


def _gpu(nvml: _Nvml, address: str) -> NvmlGpu:
    try:
        handle = nvml.gpu(address)
        uuid = _checked(nvml.text("nvmlDeviceGetUUID", handle))
    except (NvmlError, ValueError) as error:
        return NvmlGpu(fault=str(error))
    gpu = NvmlGpu(
        uuid=uuid,
        compute_capability=_compute_capability(nvml, handle),
        brand=_brand(nvml, handle),
    )
    try:
        current, _ = nvml.numbers("nvmlDeviceGetMigMode", handle)
    except NvmlError:
        return gpu  # not a MIG-capable GPU: NVML_ERROR_NOT_SUPPORTED
    if current != MIG_ENABLED:
        return gpu
    gpu = replace(gpu, mig_enabled=True)
    try:
        count = nvml.number("nvmlDeviceGetMaxMigDeviceCount", handle)
    except NvmlError as error:
        return replace(gpu, fault=f"its MIG devices: {error}")
    found = [_mig_instance(nvml, handle, index) for index in range(count)]
    return replace(
        gpu,
        mig=tuple(each for each in found if isinstance(each, MigInstance)),
        mig_faults=tuple(
            (index, each) for index, each in enumerate(found) if isinstance(each, str)
        ),
    )


def _compute_capability(nvml: _Nvml, gpu: Any) -> str | None:
    try:
        major, minor = nvml.numbers("nvmlDeviceGetCudaComputeCapability", gpu)
    except NvmlError:
        return None
    return f"{major}.{minor}"


def _brand(nvml: _Nvml, gpu: Any) -> str | None:
    try:
        number = nvml.number("nvmlDeviceGetBrand", gpu)
    except NvmlError:
        return None
    # What is newer than the list is unknown to libnvidia-container too, and called so.
    return BRANDS[number if number < len(BRANDS) else 0]


def _mig_instance(nvml: _Nvml, gpu: Any, index: int) -> MigInstance | str | None:
    """The MIG device, why it cannot be used, or None where there is none of this index."""
    try:
        handle = nvml.mig_device(gpu, index)
        profile = _MIG_PROFILE.search(nvml.text("nvmlDeviceGetName", handle))
        return MigInstance(
            index=index,
            uuid=_checked(nvml.text("nvmlDeviceGetUUID", handle)),
            gpu_instance=nvml.number("nvmlDeviceGetGpuInstanceId", handle),
            compute_instance=nvml.number("nvmlDeviceGetComputeInstanceId", handle),
            profile=profile[1] if profile else "",
        )
    except NvmlError as error:
        # Indices have gaps after an instance was destroyed.
        return None if error.code == NOT_FOUND else str(error)
    except ValueError as error:
        return str(error)


def _checked(uuid: str) -> str:
    if not _UUID.fullmatch(uuid):
        raise ValueError(f"a UUID of unknown form: {uuid!r}")
    return uuid
