# SPDX-License-Identifier: Apache-2.0
"""The groups of values, of which a caller may want a part; as in the catalogue of metrics."""

from __future__ import annotations

Groups = frozenset[str]

CLOCKS = "clocks"
TEMPERATURE = "temperature"
POWER = "power"
PCIE = "pcie"
UTILIZATION = "utilization"
MEMORY = "memory"
NVLINK = "nvlink"
LINKS = "links"
"""Each NVLink by itself: NVML takes 20 ms for the 18 of an H200."""
ERRORS = "errors"
THROTTLING = "throttling"
PROFILING = "profiling"
STATE = "state"
EVENTS = "events"
"""Xid errors, and how often the clocks were lowered."""
PROCESSES = "processes"

ALL: Groups = frozenset(
    {CLOCKS, TEMPERATURE, POWER, PCIE, UTILIZATION, MEMORY, NVLINK, LINKS}
    | {ERRORS, THROTTLING, PROFILING, STATE, EVENTS, PROCESSES}
)
