# SPDX-License-Identifier: Apache-2.0
"""Asks NVML whether MIG is enabled on GPUs, and whether the GPUs respond.

Every host whose GPUs may have MIG needs the answer, because the kernel does not have it. The GPUs
are asked in parallel, because a handle takes 6.5 ms on an H200. The module uses ctypes, because
pynvml takes 20 ms to import. ``nvml`` asks for all other facts with pynvml.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ctypes

NVML_SUCCESS, NVML_DEVICE_MIG_ENABLE = 0, 1
NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND = 3, 13
NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED = 15, 16
WITHOUT_MIG = frozenset({NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND})
"""Errors of a GPU's MIG mode if the model, or the driver, has no MIG."""
UNUSABLE = frozenset({NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED})
"""Errors that say that no program can use the GPU."""


class NvmlUnavailable(Exception):  # noqa: N818 - a state of the host, not a fault of the program
    """NVML cannot be loaded or initialised."""


class MigMode(NamedTuple):
    """NVML's answer about one GPU."""

    enabled: bool = False
    fault: str | None = None
    """Why the GPU cannot be used, in NVML's words."""
    unknown: str | None = None
    """Why NVML does not report the mode; the GPU itself may be usable."""


def ask(library: str, pci_addresses: tuple[str, ...]) -> dict[str, MigMode]:
    """Return the MIG mode of GPUs, by PCI address.

    Args:
        library: the path of libnvidia-ml.so.1; LD_LIBRARY_PATH has no effect.
        pci_addresses: ``0000:3b:00.0``.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise.
    """
    import ctypes  # noqa: PLC0415 - takes 3 ms, and many hosts never need it

    try:
        nvml = ctypes.CDLL(library)
    except OSError as error:
        raise NvmlUnavailable(f"{library} does not load: {error}") from error
    nvml.nvmlErrorString.restype = ctypes.c_char_p
    code = nvml.nvmlInit_v2()
    if code != NVML_SUCCESS:
        raise NvmlUnavailable(f"NVML does not initialise: {_text(nvml, code)}")
    modes: dict[str, MigMode] = {}

    def store_mode(address: str) -> None:
        modes[address] = _mode(nvml, address)

    others = [threading.Thread(target=store_mode, args=(address,)) for address in pci_addresses[1:]]
    for thread in others:
        thread.start()
    for address in pci_addresses[:1]:
        store_mode(address)
    for thread in others:
        thread.join()
    nvml.nvmlShutdown()
    return modes


def _mode(nvml: ctypes.CDLL, address: str) -> MigMode:
    import ctypes  # noqa: PLC0415 - as above

    gpu, current, pending = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_uint()
    code = nvml.nvmlDeviceGetHandleByPciBusId_v2(address.encode(), ctypes.byref(gpu))
    if code != NVML_SUCCESS:
        return MigMode(fault=_text(nvml, code))
    if not hasattr(nvml, "nvmlDeviceGetMigMode"):  # drivers before R450
        return MigMode()
    code = nvml.nvmlDeviceGetMigMode(gpu, ctypes.byref(current), ctypes.byref(pending))
    if code == NVML_SUCCESS:
        return MigMode(current.value == NVML_DEVICE_MIG_ENABLE)
    return failed(code, _text(nvml, code))


def failed(code: int, text: str) -> MigMode:
    """Return the answer about a GPU whose MIG mode NVML did not report, by NVML's error."""
    if code in WITHOUT_MIG:
        return MigMode()
    return MigMode(fault=text) if code in UNUSABLE else MigMode(unknown=text)


def _text(nvml: ctypes.CDLL, code: int) -> str:
    text: bytes = nvml.nvmlErrorString(code) or b""
    return text.decode("ascii", errors="replace") or f"error {code}"
