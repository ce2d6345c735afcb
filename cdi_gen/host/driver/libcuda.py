# SPDX-License-Identifier: Apache-2.0
"""Asks the driver's libcuda for its CUDA version, without a GPU and without NVML."""

from __future__ import annotations

import os

from cdi_base import trust


def newest_version(library: str) -> str | None:
    """Return the newest CUDA version that the driver supports, ``13.0``; None if unknown.

    cuDriverGetVersion works before ``cuInit``. NVML and nvidia-smi call it too, but in the libcuda
    that the loader finds for them.

    Args:
        library: the path of libcuda. This process loads it, in 2 ms.
    """
    try:
        if os.geteuid() == 0 and trust.fault(library):
            return None
    except OSError:
        return None  # removed in the meantime
    import ctypes  # noqa: PLC0415 - takes 5 ms, and most searches do not need it

    number = ctypes.c_int()
    try:
        failed = ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None  # of another architecture, or not a libcuda
    if failed or number.value <= 0:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"
