# SPDX-License-Identifier: Apache-2.0
"""Whether a host with the driver has a GPU on its PCI bus."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import kernel_modules
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.host.platforms import tegra, wsl


def examine(host: Host) -> Iterator[Finding]:
    """Yield that there is no GPU, if a driver is there for one."""
    if host.pci_functions and any(function.is_gpu for function in host.pci_functions):
        return
    if host.fact("platform", lambda: bool(wsl.detect(host.root) or tegra.detect(host.root))):
        raise NotApplicable("the GPU of this platform is not on the PCI bus")
    module = host.driver_module
    if module is None and host.kernel_release not in kernel_modules.module_files(host):
        yield Finding(
            "CDG-A013",
            "warning",
            "this host has no NVIDIA GPU on its PCI bus, and no driver",
            subject="PCI bus",
            fix="lspci -d 10de:  # empty: run doctor on the host with the GPU, or pass the GPU to "
            "this virtual machine",
        )
        return
    state = "the driver is installed"
    if module is not None:
        state = f"the kernel module nvidia {module.version} is loaded"
    yield Finding(
        "CDG-A008",
        "warning",
        f"{state}, but the PCI bus has no NVIDIA GPU",
        subject="PCI bus",
        fix="lspci -d 10de:  # empty: pass a GPU to this virtual machine, or check slot and power; "
        "a node without a GPU is fine: cdi-gen exits with 3, which its units count as success",
    )


CHECK = Check("gpu-present", "driver", "the PCI bus has an NVIDIA GPU", examine)
