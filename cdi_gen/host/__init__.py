# SPDX-License-Identifier: Apache-2.0
"""Looks at the machine and returns its inventory; the only part of cdi-gen that looks.

It knows NVIDIA's drivers and not the Container Device Interface.
"""

from __future__ import annotations

from cdi_gen.errors import NoDriverError
from cdi_gen.host import platforms
from cdi_gen.host.driver.installed import LibrariesNotInstalledError
from cdi_gen.host.where import Where, roots
from cdi_gen.inventory import Inventory

__all__ = ["THIS_HOST", "Where", "gather"]

THIS_HOST = Where()


def gather(where: Where = THIS_HOST) -> Inventory:
    """Look at the host.

    Raises:
        NoDriverError: no driver of NVIDIA's is loaded.
        CdiGenError: a directory that was asked for does not exist; the driver's libraries are not
            installed or are of another architecture; or this version does not support the platform.
    """
    opened = roots(where)
    not_installed = None
    for platform in platforms.detected(opened.host):
        try:
            return platform.gather(opened, where)
        except LibrariesNotInstalledError as error:  # noqa: PERF203 - at most three platforms
            not_installed = error
    raise not_installed or NoDriverError(
        "no NVIDIA driver is loaded on this host (/proc/driver/nvidia/version is not there)",
        hint="install the driver, or load it with: modprobe nvidia",
        code="CDG-H001",
    )
