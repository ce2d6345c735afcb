# SPDX-License-Identifier: Apache-2.0
"""What an Xid error means for the GPU, by NVIDIA's catalogue: ``specs/cdi_specs/xids.json``.

The catalogue names an immediate action for each Xid. An Xid that asks for a restart of the
application is a fault of the application, and the GPU is well. One that asks for a reset means that
the GPU must not be used before it. For the others the driver itself knows whether the GPU needs to
be recovered, so it is asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import cdi_specs

Meaning = Literal["ignored", "ask-driver", "critical"]

_HARMLESS = frozenset({"IGNORE", "RESTART_APP", "UPDATE_SWFW", "CHECK_MECHANICALS"})
_CRITICAL = frozenset({"RESET_GPU", "RESTART_BM", "RESTART_VM", "CONTACT_SUPPORT"})

ALL = "all"
XIDS = "xids"


class Xid(NamedTuple):
    """An entry of the catalogue."""

    name: str
    """The name in the driver's sources: ``ROBUST_CHANNEL_GPU_ECC_DBE``."""
    action: str
    """The immediate action: ``RESET_GPU``; empty if the catalogue names none."""


@cache
def catalogue() -> dict[int, Xid]:
    """Return NVIDIA's catalogue by the number of the Xid."""
    document = json.loads(cdi_specs.read_text("xids.json"))
    return {
        int(number): Xid(entry["name"], entry["action"])
        for number, entry in document["xids"].items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which Xids count, from ``DP_DISABLE_HEALTHCHECKS`` and ``DP_ENABLE_HEALTHCHECKS``."""

    checks: bool = True
    """Whether there are health checks at all."""
    xids: bool = True
    """Whether Xids count that are not enabled by number; the checks of the GPUs remain."""
    disabled: frozenset[int] = frozenset()
    enabled: frozenset[int] = frozenset()
    enable_all: bool = False

    def meaning(self, number: int) -> Meaning:
        """Return what an Xid means for the GPU; an unknown one is critical."""
        if self.enable_all or number in self.enabled:
            return "critical"
        if not self.xids or number in self.disabled:
            return "ignored"
        xid = catalogue().get(number)
        if xid is None or xid.action in _CRITICAL:
            return "critical"
        return "ignored" if xid.action in _HARMLESS else "ask-driver"


def rules(disable: str = "", enable: str = "") -> Rules:
    """Return the rules of NVIDIA's two variables: ``all``, ``xids`` or numbers with commas.

    ``all`` in the first one wins over everything. A number in the second one wins over the first
    one and over the catalogue. Words that are neither are ignored, as in NVIDIA's plugin.
    """
    disabled, enabled = _words(disable), _words(enable)
    return Rules(
        checks=ALL not in disabled,
        xids=XIDS not in disabled,
        disabled=_numbers(disabled),
        enabled=_numbers(enabled),
        enable_all=ALL in enabled,
    )


def describe(number: int) -> str:
    """Return the number with the name of the catalogue."""
    xid = catalogue().get(number)
    return f"Xid {number} ({xid.name})" if xid else f"Xid {number}"


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in text.split(",") if word.strip())


def _numbers(words: frozenset[str]) -> frozenset[int]:
    return frozenset(int(word) for word in words if word.isascii() and word.isdigit())
