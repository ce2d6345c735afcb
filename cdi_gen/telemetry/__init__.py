# SPDX-License-Identifier: Apache-2.0
"""Measures GPUs and MIG devices with NVML, for `cdi-gen metrics` and `cdi-gen top`."""

from cdi_gen.telemetry.groups import ALL, Groups
from cdi_gen.telemetry.model import (
    GpuReading,
    LinkReading,
    MigReading,
    ProcessReading,
    Quantities,
    Reading,
)
from cdi_gen.telemetry.telemetry import Telemetry

__all__ = [
    "ALL",
    "GpuReading",
    "Groups",
    "LinkReading",
    "MigReading",
    "ProcessReading",
    "Quantities",
    "Reading",
    "Telemetry",
]
