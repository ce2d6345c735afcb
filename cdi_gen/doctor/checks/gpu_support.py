# SPDX-License-Identifier: Apache-2.0
"""Whether the branch and the kind of the kernel module drive the host's GPUs, by PCI ids."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base import versions
from cdi_base.findings import Finding
from cdi_gen.catalogue import pci_device_names
from cdi_gen.compat import data, gpu_rules
from cdi_gen.compat.facts import HostGpu
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host


def examine(host: Host) -> Iterator[Finding]:
    """Yield GPUs that the driver ended to support, and GPUs of the other kind of module."""
    module = host.driver_module
    version = versions.parse(module.version) if module else None
    if module is None or version is None:
        raise NotApplicable("no NVIDIA driver is loaded")
    if not host.pci_gpus:
        raise NotApplicable("no NVIDIA GPU on the PCI bus")
    names = pci_device_names()
    for gpu in host.pci_gpus:
        capability = data.pci_capability(gpu.device)
        name = names.get(gpu.device, f"10de:{gpu.device:04x}")
        fault = gpu_rules.driver_fault(
            HostGpu(
                name=f"GPU {gpu.address} ({name})",
                capability=None if capability is None else data.text(capability),
            ),
            version[0],
            module.kind,
        )
        if fault is not None:
            yield fault


CHECK = Check(
    "gpu-support", "driver", "the loaded kernel module supports each GPU on the PCI bus", examine
)
