# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's catalogue of Xid errors: ``specs/cdi_specs/xids.json``.

The catalogue names an immediate action for each Xid. An Xid that asks for a restart of the
application is a fault of the application, and the GPU is well. One that asks for a reset means that
the GPU must not be used before it. For the others the driver itself knows whether the GPU needs to
be recovered.
"""

from __future__ import annotations

import json
from functools import cache
from typing import NamedTuple

import cdi_specs

_HARMLESS = frozenset({"IGNORE", "RESTART_APP", "UPDATE_SWFW", "CHECK_MECHANICALS"})
_CRITICAL = frozenset({"RESET_GPU", "RESTART_BM", "RESTART_VM", "CONTACT_SUPPORT"})


class Xid(NamedTuple):
    """An entry of the catalogue."""

    name: str
    """The name in the driver's sources: ``ROBUST_CHANNEL_GPU_ECC_DBE``."""
    action: str
    """The immediate action: ``RESET_GPU``; empty if the catalogue names none."""

    @property
    def is_harmless(self) -> bool:
        """Whether the GPU can be used after it."""
        return self.action in _HARMLESS

    @property
    def is_critical(self) -> bool:
        """Whether the GPU must not be used before the action."""
        return self.action in _CRITICAL


@cache
def catalogue() -> dict[int, Xid]:
    """Return NVIDIA's catalogue by the number of the Xid."""
    document = json.loads(cdi_specs.read_text("xids.json"))
    return {
        int(number): Xid(entry["name"], entry["action"])
        for number, entry in document["xids"].items()
    }


def describe(number: int) -> str:
    """Return the number with the name of the catalogue."""
    xid = catalogue().get(number)
    return f"Xid {number} ({xid.name})" if xid else f"Xid {number}"
