# SPDX-License-Identifier: Apache-2.0
"""Waits for the kernel module of the driver, which may be loaded late during the boot."""

from __future__ import annotations

import os
import time

from cdi_base.host_fingerprint import DRIVER

PAUSE_SECONDS = 0.2
_WSL = "/dev/dxg"
"""The node of WSL 2, whose driver is not a module of this kernel: waiting would be in vain."""


def is_driver_loaded(prefix: str = "") -> bool:
    """Whether the kernel module is loaded."""
    return os.path.exists(f"{prefix}{DRIVER}/version")


def wait_for_driver(seconds: float, prefix: str = "") -> None:
    """Return when the module is loaded, or after this time by the monotonic clock."""
    deadline = time.monotonic() + seconds
    while not is_driver_loaded(prefix) and not os.path.exists(f"{prefix}{_WSL}"):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return
        time.sleep(min(PAUSE_SECONDS, remaining))
