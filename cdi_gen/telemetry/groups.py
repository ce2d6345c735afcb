# SPDX-License-Identifier: Apache-2.0
"""The groups of values, of which a caller may want a part."""

from __future__ import annotations

Groups = frozenset[str]

CLOCKS = "clocks"
UTILIZATION = "utilization"
MEMORY = "memory"
PROCESSES = "processes"

ALL: Groups = frozenset({CLOCKS, UTILIZATION, MEMORY, PROCESSES})
