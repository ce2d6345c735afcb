# SPDX-License-Identifier: Apache-2.0
"""Whether the driver's installation is whole: the libraries of CUDA and the firmware."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import distribution
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.inventory import DGPU, Inventory
from cdi_gen.paths import base_name

NEEDED = {
    "libcuda": "CUDA finds no driver (libcuda.so.1: cannot open shared object file)",
    "libnvidia-ml": "nvidia-smi and NVML do not work",
    "libnvidia-ptxjitcompiler": "CUDA cannot compile PTX (error 221)",
}
"""The libraries that every installation for containers has, and what does not work without."""

LOADER_CACHE = "CDG-H401"
UNUSABLE = frozenset({"CDG-H403", "CDG-H405"})
"""Files of the driver that cannot be read, and libraries that are no ELF files."""


def examine(host: Host) -> Iterator[Finding]:
    """Yield the libraries that are missing, and the files that cannot be used."""
    inventory = host.inventory
    if inventory.platform != DGPU:
        raise NotApplicable("the driver of this platform is another one")
    driver = inventory.require_driver()
    reinstall = distribution.commands(host).libraries.format(driver.library_version.split(".")[0])
    present = {
        base_name(library.path).partition(".so")[0]
        for library in inventory.libraries
        if library.bits == 64
    }
    for name, consequence in NEEDED.items():
        if name not in present:
            yield Finding(
                "CDG-A023",
                "error",
                f"{name}.so.{driver.library_version} is not installed: {consequence}",
                subject=name,
                fix=reinstall,
            )
    for record in inventory.ignored:
        if record.code in UNUSABLE:
            message = f"{record.path}: {record.reason}"
            yield Finding(record.code, "error", message, subject=record.path, fix=reinstall)
        elif record.code == LOADER_CACHE:
            message = f"{record.path}: {record.reason}"
            fix = "sudo ldconfig"
            yield Finding(record.code, "warning", message, subject=record.path, fix=fix)
    yield from _firmware(host, inventory)


def _firmware(host: Host, inventory: Inventory) -> Iterator[Finding]:
    """Yield that the open module has no firmware, without which no GPU starts."""
    driver = inventory.require_driver()
    if driver.kernel_module != "open" or any(file.entry == "firmware" for file in inventory.files):
        return
    yield Finding(
        "CDG-A024",
        "warning",
        f"the firmware of the driver {driver.version} is not installed: GPUs do not start when the "
        "module is loaded the next time",
        subject=f"/lib/firmware/nvidia/{driver.version}",
        fix=f"{distribution.commands(host).driver}  # again, from "
        f"{distribution.commands(host).repository}",
    )


CHECK = Check("driver-files", "driver", "the driver's installation is whole", examine)
