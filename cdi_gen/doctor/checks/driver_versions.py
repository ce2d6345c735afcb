# SPDX-License-Identifier: Apache-2.0
"""Whether the driver's libraries are those of the loaded kernel module."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check
from cdi_gen.doctor.host import Host


def examine(host: Host) -> Iterator[Finding]:
    """Yield the two versions if they differ: after an update, before the reboot."""
    driver = host.inventory.require_driver()
    if driver.version == driver.library_version:
        return
    yield Finding(
        "CDG-A021",
        "error",
        f"the driver's libraries are {driver.library_version}, the loaded kernel module is "
        f'{driver.version}; NVML reports "Driver/library version mismatch"',
        subject="nvidia",
        fix="sudo reboot  # or, if no program uses a GPU: sudo modprobe -r nvidia_uvm nvidia_drm "
        "nvidia_modeset nvidia && sudo modprobe nvidia",
    )


CHECK = Check(
    "driver-versions",
    "driver",
    "the driver's libraries and its kernel module have the same version",
    examine,
)
