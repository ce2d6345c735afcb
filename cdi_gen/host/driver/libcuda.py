# SPDX-License-Identifier: Apache-2.0
"""What the driver's libcuda says of itself: which CUDA it runs. No GPU and no NVML is asked."""

from __future__ import annotations

import os

from cdi_base import trust


def newest_version(library: str) -> str | None:
    """The newest CUDA version that the driver runs, ``13.0``; None if the library does not tell.

    cuDriverGetVersion is the one function that CUDA has for this before ``cuInit``; NVML and
    nvidia-smi ask it too, but of whichever libcuda the loader finds for them.

    Args:
        library: its path. It is loaded into this process, in 2 ms.
    """
    try:
        if os.geteuid() == 0 and trust.fault(library):
            return None
    except OSError:
        return None  # removed in the meantime
    import ctypes  # noqa: PLC0415 - takes 5 ms, and most looks do without

    found = ctypes.c_int()
    try:
        failed = ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(found))
    except (OSError, AttributeError):
        return None  # of another architecture, or not a libcuda
    if failed or found.value <= 0:
        return None
    return f"{found.value // 1000}.{found.value % 1000 // 10}"
