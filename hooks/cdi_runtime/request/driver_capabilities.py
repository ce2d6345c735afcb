# SPDX-License-Identifier: Apache-2.0
"""Reads the list of driver capabilities in `NVIDIA_DRIVER_CAPABILITIES`."""

from __future__ import annotations

from cdi_base.errors import shown
from cdi_runtime.driver_capabilities import ALL, KNOWN, NONE
from cdi_runtime.request.device_names import hint_about_quotes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def capabilities(words: Collection[str], supported: tuple[str, ...]) -> tuple[str, ...]:
    """Return the capabilities in a list, each once; `all` means all that are supported.

    Raises:
        ValueError: a word is not a supported capability; the message is for the user.
    """
    if ALL in words:
        return supported
    for word in words:
        if word == NONE:
            if len(set(words)) == 1:
                return ()
            raise ValueError("'none' cannot be combined with other capabilities")
        if word not in supported:
            problem = (
                "is not in supported-driver-capabilities of config.toml"
                if word in KNOWN
                else "is unknown"
            )
            available = ", ".join(supported) or "none"
            raise ValueError(
                f"the capability {shown(word)[:40]} {problem}; available: {available}"
                f"{hint_about_quotes(word)}"
            )
    return tuple(word for word in KNOWN if word in words)
