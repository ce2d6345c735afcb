# SPDX-License-Identifier: Apache-2.0
"""Decides whether a library's code for GPUs runs on a compute capability.

| code | runs on |
|---|---|
| ``sm_80`` | 8.0 and later minor versions of 8 |
| ``sm_90a`` | 9.0 alone |
| ``sm_100f`` | 10.0 and later minor versions of 10: the architecture's family |
| ``compute_80`` | 8.0 and every later capability; the driver compiles it |
| ``compute_90a``, ``compute_100f`` | as the machine code of the same suffix |

Source: CUDA C++ Programming Guide, sections on binary compatibility, PTX compatibility and feature
sets of architectures.
"""

from __future__ import annotations

from cdi_gen.compat.data import Pair
from cdi_gen.compat.facts import DeviceCode

MACHINE, PTX, NOTHING = "machine", "ptx", "nothing"


def support(code: DeviceCode, capability: Pair) -> str:
    """Return the best code that the library has: `MACHINE`, `PTX` or `NOTHING`."""
    if any(_machine_code_runs(name, capability) for name in code.cubins):
        return MACHINE
    if any(_ptx_runs(name, capability) for name in code.ptx):
        return PTX
    return NOTHING


def _machine_code_runs(name: str, capability: Pair) -> bool:
    built, suffix = _parse(name)
    if built is None:
        return False
    if suffix == "a":
        return built == capability
    return built[0] == capability[0] and built[1] <= capability[1]


def _ptx_runs(name: str, capability: Pair) -> bool:
    built, suffix = _parse(name)
    if built is None:
        return False
    return _machine_code_runs(name, capability) if suffix else built <= capability


def _parse(name: str) -> tuple[Pair | None, str]:
    """Return the capability and the suffix of `sm_90a` or `compute_90a`."""
    number = name.rpartition("_")[2]
    suffix = number[-1:] if number[-1:] in {"a", "f"} else ""
    digits = number.removesuffix(suffix)
    if not (digits.isascii() and digits.isdecimal() and 2 <= len(digits) <= 4):
        return None, suffix
    return (int(digits[:-1]), int(digits[-1])), suffix
