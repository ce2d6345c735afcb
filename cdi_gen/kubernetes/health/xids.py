# SPDX-License-Identifier: Apache-2.0
"""What an Xid error means for a device of the plugin: by the catalogue, and the user's variables.

Where the catalogue does not say whether the GPU can be used, the driver is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cdi_gen.xids import catalogue

Meaning = Literal["ignored", "ask-driver", "critical"]

ALL = "all"
XIDS = "xids"


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
        if xid is None or xid.is_critical:
            return "critical"
        return "ignored" if xid.is_harmless else "ask-driver"


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


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in text.split(",") if word.strip())


def _numbers(words: frozenset[str]) -> frozenset[int]:
    return frozenset(int(word) for word in words if word.isascii() and word.isdigit())
