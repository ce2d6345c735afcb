# SPDX-License-Identifier: Apache-2.0
"""A device that the kubelet can allocate, and a resource: the devices under one name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cdi_gen.kubernetes.settings.model import SharingStrategy

REPLICA = "::"
"""Separates the name of a shared device from the number of its replica: ``GPU-…::3``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU or a MIG device, or one of the replicas of a shared one."""

    id: str
    """The id that the kubelet knows: a UUID, ``UUID::N`` for a replica."""
    uuid: str
    """The UUID of the GPU or the MIG device; ``all`` on WSL 2, ``tegra`` on Tegra."""
    index: str
    """NVML's index of a GPU, ``0``, or of a MIG device, ``0:1``."""
    gpu_index: int
    """The index of the GPU that the device is, or is a part of."""
    mig: bool = False
    numa_node: int | None = None
    paths: tuple[str, ...] = ()
    """The device's own nodes in /dev."""
    memory_mib: int | None = None
    replicas: int = 1
    """How many containers share the device."""

    @property
    def replica(self) -> int | None:
        """The number of the replica; None for a device that is not shared."""
        _, separator, number = self.id.rpartition(REPLICA)
        return int(number) if separator else None


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource as the scheduler sees it. Devices are in the order of their GPUs."""

    name: str
    """With its prefix: ``nvidia.com/gpu``."""
    devices: tuple[Device, ...]
    sharing: SharingStrategy = "none"
    fail_requests_greater_than_one: bool = False

    @cached_property
    def by_id(self) -> dict[str, Device]:
        """The devices by their ids."""
        return {device.id: device for device in self.devices}

    @property
    def socket_name(self) -> str:
        """The file name of the plugin's socket: ``nvidia-gpu.sock`` for ``nvidia.com/gpu``."""
        prefix, _, name = self.name.rpartition("/")
        vendor = "nvidia" if prefix == "nvidia.com" else prefix.replace("/", "-")
        return f"{vendor}-{name}.sock"


def device_name(identifier: str) -> str:
    """Return the UUID in a device id, which may be the id of a replica."""
    return identifier.partition(REPLICA)[0]
