# SPDX-License-Identifier: Apache-2.0
"""Reads the list of driver capabilities in `NVIDIA_DRIVER_CAPABILITIES`."""

from __future__ import annotations

from cdi_base.errors import shown
from cdi_runtime.driver_capabilities import ALL, KNOWN, NONE
from cdi_runtime.request.device_names import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def chosen(words: Collection[str], supported: tuple[str, ...]) -> tuple[str, ...]:
    """The capabilities of a list, each once: `all` is all that are supported, `none` is none.

    Raises:
        ValueError: a word is not supported, with what to say of it.
    """
    if ALL in words:
        return supported
    for word in words:
        if word == NONE:
            if len(set(words)) == 1:
                return ()
            raise ValueError("'none' beside other capabilities")
        if word not in supported:
            what = "is not among supported-driver-capabilities" if word in KNOWN else "is unknown"
            there = ", ".join(supported) or "none"
            raise ValueError(
                f"the capability {shown(word)[:40]} {what}; there is: {there}{quoted(word)}"
            )
    return tuple(word for word in KNOWN if word in words)
