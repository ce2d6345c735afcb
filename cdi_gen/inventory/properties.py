# SPDX-License-Identifier: Apache-2.0
"""Properties of a host's GPUs that a scheduler chooses by, and specs do not need.

They are separate from the inventory, because NVML takes 10 ms for each GPU and more for each pair.
"""

from __future__ import annotations

from dataclasses import dataclass

PCIE_LEVELS = (
    "internal", "single-switch", "multiple-switches", "host-bridge", "node", "system",
)  # fmt: skip
"""What lies between two GPUs, from near to far, as in nvmlGpuTopologyLevel_t: nothing but the
board, one PCIe switch, several switches, a host bridge, several host bridges of one NUMA node, the
connection between NUMA nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The connection between two GPUs, given by their indices; ``first`` is less."""

    first: int
    second: int
    pcie: str
    """One of `PCIE_LEVELS`."""
    nvlinks: int = 0
    """Active NVLinks between the two GPUs, directly or through NVSwitches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProperties:
    """The attributes of a MIG device, from nvmlDeviceGetAttributes_v2."""

    uuid: str
    memory_mib: int
    multiprocessors: int
    gpu_instance_slices: int
    compute_instance_slices: int
    copy_engines: int
    decoders: int
    encoders: int
    jpeg_engines: int
    ofa_engines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProperties:
    """The properties of a GPU. None: not known."""

    index: int
    uuid: str | None = None
    product: str | None = None
    """NVML's product name: ``NVIDIA H200``."""
    memory_mib: int | None = None
    addressable_memory: int | None = None
    """Of a GPU that is passed through to virtual machines: the size of its 64-bit memory regions in
    bytes, rounded up to a power of two."""
    compute_capability: str | None = None
    """``9.0``."""
    numa_node: int | None = None
    pci_class: int | None = None
    """The PCI class without the programming interface: 0x0302 is a 3D controller."""
    fabric_cluster: str | None = None
    """The UUID of the NVLink fabric's cluster; None if the GPU is in none."""
    fabric_clique: int | None = None
    mig_capable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """The properties of a host."""

    gpus: tuple[GpuProperties, ...] = ()
    mig_devices: tuple[MigProperties, ...] = ()
    links: tuple[Link, ...] = ()
    cuda_version: str | None = None
    """The newest CUDA version that the driver supports, ``13.0``, from
    nvmlSystemGetCudaDriverVersion_v2."""
    machine: str | None = None
    """The product name of the machine, from DMI."""
    vgpu: bool | None = None
    """Whether a GPU is a vGPU of a virtual machine; None if the process may not find out."""
    vgpu_host_driver_version: str | None = None
    """The version of the driver on the host of the virtual machine."""
    vgpu_host_driver_branch: str | None = None

    def gpu(self, index: int) -> GpuProperties:
        """Return the properties of a GPU; without values if nothing is known about it."""
        for gpu in self.gpus:
            if gpu.index == index:
                return gpu
        return GpuProperties(index=index)
