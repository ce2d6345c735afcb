# SPDX-License-Identifier: Apache-2.0
"""Waits for the kernel module of the driver, which may be loaded late during the boot."""

from __future__ import annotations

import os
import time

from cdi_base.host_fingerprint import DRIVER

PAUSE_SECONDS = 0.2


def is_driver_loaded(prefix: str = "") -> bool:
    """Whether the kernel module is loaded."""
    return os.path.exists(f"{prefix}{DRIVER}/version")


def wait_for_driver(seconds: float, prefix: str = "") -> None:
    """Return when the module is loaded, or after this time by the monotonic clock."""
    deadline = time.monotonic() + seconds
    while not is_driver_loaded(prefix):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return
        time.sleep(min(PAUSE_SECONDS, remaining))
