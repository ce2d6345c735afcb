# SPDX-License-Identifier: Apache-2.0
"""Which kernel driver each GPU has: nvidia, nouveau, vfio-pci for virtual machines, or none."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import distribution
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.checks.driver_loaded import OPEN_SOURCE
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.pci import BRIDGE, PciFunction

NVIDIA, VFIO = "nvidia", "vfio-pci"
FOR_VFIO = frozenset({VFIO, "", "pci-stub", "pcieport"})
"""Drivers with which vfio-pci shares an IOMMU group (vfio.rst: a group is viable)."""


def examine(host: Host) -> Iterator[Finding]:
    """Yield the GPUs that the driver nvidia does not have."""
    if not host.pci_gpus:
        raise NotApplicable("no NVIDIA GPU on the PCI bus")
    for gpu in host.pci_gpus:
        if gpu.driver in OPEN_SOURCE:
            yield _nouveau(host, gpu)
        elif gpu.driver == VFIO:
            yield from _passed_through(host, gpu)
        elif gpu.driver == "" and host.driver_module is not None and _has_driver_links(host):
            yield Finding(
                "CDG-A009",
                "error",
                f"GPU {gpu.address} is bound to no driver, although the kernel module nvidia is "
                "loaded",
                subject=gpu.address,
                fix=f"echo {gpu.address} | sudo tee /sys/bus/pci/drivers/nvidia/bind  # if it "
                "fails: sudo dmesg | grep NVRM",
            )
        elif gpu.driver not in {"", NVIDIA}:
            yield Finding(
                "CDG-A009",
                "error",
                f"GPU {gpu.address} is bound to the driver {gpu.driver}",
                subject=gpu.address,
                fix=f"echo {gpu.address} | sudo tee /sys/bus/pci/drivers/{gpu.driver}/unbind "
                "&& sudo modprobe nvidia",
            )


def _has_driver_links(host: Host) -> bool:
    """Whether sysfs shows bound drivers; a container may not have all of sysfs."""
    return host.exists("/sys/bus/pci/drivers")


def _nouveau(host: Host, gpu: PciFunction) -> Finding:
    initramfs = distribution.commands(host).initramfs
    return Finding(
        "CDG-A002",
        "error",
        f"GPU {gpu.address} is bound to {gpu.driver}, so NVIDIA's driver cannot have it",
        subject=gpu.address,
        fix=f"echo 'blacklist {gpu.driver}' | sudo tee "
        f"/etc/modprobe.d/blacklist-{gpu.driver}.conf && {initramfs} && sudo reboot",
    )


def _passed_through(host: Host, gpu: PciFunction) -> Iterator[Finding]:
    yield Finding(
        "CDG-A010",
        "warning",
        f"GPU {gpu.address} is bound to vfio-pci, for a virtual machine: containers cannot use it",
        subject=gpu.address,
        fix=f"{_rebind(gpu, NVIDIA)}  # only if containers shall have it",
    )
    if gpu.iommu_group is None:
        yield Finding(
            "CDG-A012",
            "error",
            f"GPU {gpu.address} is bound to vfio-pci and in no IOMMU group: no virtual machine can "
            "have it",
            subject=gpu.address,
            fix="for containers: the fix of CDG-A010; for a virtual machine: switch VT-d or AMD-Vi "
            "on in the firmware, add intel_iommu=on (Intel) to the kernel's command line, and "
            "reboot",
        )
        return
    for function in host.iommu_group(gpu.iommu_group):
        is_bridge = function.pci_class >> 16 == BRIDGE
        if function.driver not in FOR_VFIO and not is_bridge:
            yield Finding(
                "CDG-A011",
                "error",
                f"IOMMU group {gpu.iommu_group} of GPU {gpu.address} also has {function.address}, "
                f"bound to {function.driver}: no virtual machine can have the group (vfio: group "
                "is not viable)",
                subject=function.address,
                fix=_rebind(function, VFIO),
            )


def _rebind(function: PciFunction, driver: str) -> str:
    """Return the command that gives a function another driver."""
    device = f"/sys/bus/pci/devices/{function.address}"
    return (
        f"echo {driver} | sudo tee {device}/driver_override && echo {function.address} | sudo tee "
        f"{device}/driver/unbind && echo {function.address} | sudo tee /sys/bus/pci/drivers_probe"
    )


CHECK = Check("gpu-drivers", "driver", "NVIDIA's driver has each GPU on the PCI bus", examine)
