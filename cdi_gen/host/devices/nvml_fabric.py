# SPDX-License-Identifier: Apache-2.0
"""Asks NVML for the state of GPUs in their NVLink fabric, which the Fabric Manager builds."""

from __future__ import annotations

from collections.abc import Sequence

from cdi_gen.host.devices import nvml
from cdi_gen.host.devices.mig_mode import NVML_SUCCESS
from cdi_gen.host.devices.nvml_properties import FABRIC_CALLS

STATES = {1: "not started", 2: "in progress", 3: "completed"}
"""The values of nvmlGpuFabricState_t; 0: the GPU has no fabric."""
COMPLETED = STATES[3]


def states(library: str, addresses: Sequence[str]) -> dict[str, str]:
    """Return the state of each GPU that is part of a fabric, by its PCI address.

    A registration that has ended with an error is ``completed with error N``.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise, or pynvml is missing.
    """
    import ctypes  # noqa: PLC0415 - NVML is loaded by it

    result: dict[str, str] = {}
    with nvml.initialised(library) as pynvml:
        for address in addresses:
            for name in FABRIC_CALLS:
                try:
                    handle = pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
                    info = getattr(pynvml, f"c_nvml{name}_t")()
                    call = getattr(pynvml, f"nvmlDeviceGet{name}")
                    code = call(handle, ctypes.byref(info))
                except (pynvml.NVMLError, AttributeError):
                    continue
                if code == NVML_SUCCESS and info.state in STATES:
                    error = f" with error {info.status}" if info.status else ""
                    result[address] = f"{STATES[info.state]}{error}"
                    break
    return result
