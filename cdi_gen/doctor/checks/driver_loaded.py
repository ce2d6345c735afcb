# SPDX-License-Identifier: Apache-2.0
"""Whether the driver's kernel module is loaded; if not, why not."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host

MODULE_FILES = ("nvidia.ko", "nvidia-current.ko")
"""The names of the module's file; the second is Debian's. Each may be compressed."""


def examine(host: Host) -> Iterator[Finding]:
    """Yield why the module is not loaded; a note if there is no GPU to load it for."""
    gpus = host.pci_gpus
    if host.driver_module is not None:
        return
    if not gpus:
        raise NotApplicable("no NVIDIA GPU on the PCI bus")
    yield Finding(
        "CDG-A001",
        "error",
        f"{len(gpus)} NVIDIA GPU{'s' * (len(gpus) != 1)} on the PCI bus, but the kernel module "
        "nvidia is not loaded",
        subject="nvidia",
        fix="sudo modprobe nvidia",
    )


CHECK = Check("driver-loaded", "driver", "the kernel module nvidia is loaded", examine)
