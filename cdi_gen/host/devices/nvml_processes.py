# SPDX-License-Identifier: Apache-2.0
"""Asks NVML which processes use GPUs, and how much memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.host.devices.nvml import initialised

KINDS = ("Compute", "Graphics", "MPSCompute")
VERSIONS = ("_v3", "_v2", "")
"""Of the functions, the newest first: drivers before 510 do not have v3."""

_NO_INSTANCE = 0xFFFFFFFF


class NvmlProcess(NamedTuple):
    """A process that uses a GPU or a MIG device."""

    pci_address: str
    pid: int
    memory: int | None
    """Bytes; None if the driver does not tell, as for GPUs that share the system's memory."""
    gpu_instance: int | None
    compute_instance: int | None


def ask(library: str, pci_addresses: tuple[str, ...]) -> tuple[NvmlProcess, ...]:
    """Return the processes that use these GPUs, in the order of the GPUs.

    Raises:
        NvmlUnavailable: the library does not load, does not initialise, or lists no processes.
    """
    with initialised(library) as pynvml:
        return tuple(
            process for address in pci_addresses for process in _processes(pynvml, address)
        )


def _processes(pynvml: Any, address: str) -> list[NvmlProcess]:
    try:
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
    except pynvml.NVMLError:
        return []  # the inventory says what is wrong with the GPU
    by_key: dict[tuple[int, int | None, int | None], NvmlProcess] = {}
    for kind in KINDS:
        for entry in _entries(pynvml, handle, kind):
            process = NvmlProcess(
                address,
                int(entry.pid),
                None if entry.usedGpuMemory is None else int(entry.usedGpuMemory),
                _instance(entry, "gpuInstanceId"),
                _instance(entry, "computeInstanceId"),
            )
            # A process with compute and graphics is in both lists, with the same memory.
            by_key.setdefault(
                (process.pid, process.gpu_instance, process.compute_instance), process
            )
    return [*by_key.values()]


def _entries(pynvml: Any, handle: Any, kind: str) -> Iterator[Any]:
    """Yield NVML's entries of a kind.

    Raises:
        NvmlUnavailable: NVML has no function that lists processes of compute.
    """
    # The module's functions without a version raise the second if the library lacks the newest.
    absent = (
        pynvml.NVMLError_FunctionNotFound,
        getattr(pynvml, "NVMLLibraryMismatchError", pynvml.NVMLError_FunctionNotFound),
    )
    for version in VERSIONS:
        function = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses{version}", None)
        if function is None:
            continue
        try:
            yield from function(handle)
        except absent:
            continue
        except pynvml.NVMLError:
            return  # not supported by this GPU
        return
    if kind == KINDS[0]:
        raise NvmlUnavailable("this version of NVML lists no processes")


def _instance(entry: Any, name: str) -> int | None:
    number = getattr(entry, name, _NO_INSTANCE)
    return None if number is None or number == _NO_INSTANCE else int(number)
