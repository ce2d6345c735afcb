# SPDX-License-Identifier: Apache-2.0
"""Gathers the inventory of a host. No other package of cdi-gen probes the host.

The package depends on NVIDIA's drivers and not on the Container Device Interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_gen.errors import NoDriverError
from cdi_gen.host.where import Where, roots

if TYPE_CHECKING:
    from cdi_gen.inventory import Inventory

__all__ = ["THIS_HOST", "Where", "gather"]

THIS_HOST = Where()


def gather(where: Where = THIS_HOST) -> Inventory:
    """Return the inventory of the host.

    Raises:
        NoDriverError: no NVIDIA driver is loaded.
        CdiGenError: a directory of ``where`` does not exist; the driver's libraries are not
            installed or are of another architecture; or this version does not support the platform.
    """
    # `cdi-gen check` reads facts of procfs only, and starts in half of the time without these.
    from cdi_gen.host import platforms  # noqa: PLC0415
    from cdi_gen.host.driver.installed import LibrariesNotInstalledError  # noqa: PLC0415

    directories = roots(where)
    not_installed = None
    for platform in platforms.detected(directories.host):
        try:
            return platform.gather(directories, where)
        except LibrariesNotInstalledError as error:  # noqa: PERF203 - at most three platforms
            not_installed = error
    raise not_installed or NoDriverError(
        "no NVIDIA driver is loaded on this host (/proc/driver/nvidia/version does not exist)",
        hint="install the driver, or load it with: modprobe nvidia",
        code="CDG-H001",
    )
