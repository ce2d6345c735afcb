# SPDX-License-Identifier: Apache-2.0
"""The modes of ``cdi-gen generate``, with the names of nvidia-ctk's modes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cdi_gen.errors import UsageError

if TYPE_CHECKING:
    from cdi_gen.generate.modes.mode import Mode

MODULES = {
    "auto": "nvml",
    "nvml": "nvml",
    "cap": "cap",
    "gds": "transports",
    "mofed": "transports",
    "gdrcopy": "transports",
    "nvswitch": "transports",
    "imex": "transports",
}
"""The module of each mode. Its function ``mode`` returns the ``Mode`` of a name."""

UNSUPPORTED = ("csv", "management", "wsl")
"""Modes of nvidia-ctk that this version does not have."""

__all__ = ["MODULES", "UNSUPPORTED", "find"]


def find(name: str) -> Mode:
    """Return the mode of this name, in upper or lower case. Only the mode's module is imported.

    Raises:
        UsageError: this version has no such mode.
    """
    name = name.lower()
    hint = f"the modes are {', '.join(MODULES)}"
    if name in UNSUPPORTED:
        raise UsageError(
            f"--mode {name}: not supported by this version", hint=hint, code="CDG-U004"
        )
    if name not in MODULES:
        raise UsageError(f"--mode: unknown mode {name}", hint=hint, code="CDG-U003")
    mode: Mode = import_module(f"cdi_gen.generate.modes.{MODULES[name]}").mode(name)
    return mode
