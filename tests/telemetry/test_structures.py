# SPDX-License-Identifier: Apache-2.0
"""NVML's structures are those of its header, of which pynvml has a copy."""

from __future__ import annotations

from ctypes import Structure, sizeof

import pynvml
import pytest

from cdi_gen.telemetry import structures

NAMES = {
    "PciInfo": "nvmlPciInfo_t",
    "Utilization": "c_nvmlUtilization_t",
    "Memory": "c_nvmlMemory_t",
    "MemoryV2": "c_nvmlMemory_v2_t",
    "ProcessInfo": "c_nvmlProcessInfo_v3_t",
    "ProcessSample": "c_nvmlProcessUtilizationSample_t",
    "FieldValue": "c_nvmlFieldValue_t",
}


def layout(structure: type[Structure]) -> list[tuple[int, int]]:
    return [
        (getattr(structure, name).offset, getattr(structure, name).size)
        for name, *_ in structure._fields_
    ]


@pytest.mark.parametrize(("name", "name_of_pynvml"), NAMES.items())
def test_structures_are_those_of_nvml(name: str, name_of_pynvml: str) -> None:
    ours, theirs = getattr(structures, name), getattr(pynvml, name_of_pynvml)
    assert layout(ours) == layout(theirs)
    assert sizeof(ours) == sizeof(theirs)


def test_versions_and_constants_are_those_of_nvml() -> None:
    assert pynvml.nvmlMemory_v2 == structures.MEMORY_V2
    assert (
        pynvml.NVML_CLOCK_SM,
        pynvml.NVML_CLOCK_MEM,
        pynvml.NVML_CLOCK_VIDEO,
    ) == (structures.CLOCK_SM, structures.CLOCK_MEMORY, structures.CLOCK_VIDEO)
