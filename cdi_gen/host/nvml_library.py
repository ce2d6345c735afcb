# SPDX-License-Identifier: Apache-2.0
"""Finds the NVML of the host's driver."""

from __future__ import annotations

from cdi_gen.errors import NoDriverError
from cdi_gen.host import gather
from cdi_gen.host.driver.installed import open_path
from cdi_gen.host.where import Where, roots


def nvml_library(where: Where) -> str | None:
    """Return the path of libnvidia-ml for this process; None if no driver is installed.

    Raises:
        CdiGenError: the driver cannot be used; as `cdi_gen.host.gather`.
    """
    try:
        inventory = gather(where._replace(transports=False, nvml=False))
    except NoDriverError:
        return None
    return open_path(roots(where).driver, inventory.libraries, "libnvidia-ml.so.")
