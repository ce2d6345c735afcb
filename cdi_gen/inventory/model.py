# SPDX-License-Identifier: Apache-2.0
"""The types of the inventory: everything cdi-gen knows about a host, as one immutable value.

``cdi_gen.host`` probes the host and returns the inventory; ``cdi_gen.generate`` turns it into a CDI
spec; ``cdi_gen.inventory.json_form`` reads and writes its JSON form, so that any host can be a test
case, a bug report or a fleet check. It holds facts and no decisions: ``generate`` decides which of
them reach a container. Tuples are sorted, numbers are numbers: equal hosts give equal inventories.

A fact that a platform does not have is None or an empty tuple: a GPU of WSL 2 has no minor number
and no node of its own. ``cdi_gen.inventory.validation`` says what each platform must have.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdi_gen.errors import CdiGenError
from cdi_gen.paths import HostPath
from cdi_gen.values import Value

DGPU = "dgpu"
WSL = "wsl"
TEGRA = "tegra"
VFIO = "vfio"

PLATFORMS = {
    DGPU: "the NVIDIA driver for Linux",
    WSL: "WSL 2",
    TEGRA: "a Tegra platform (Jetson)",
    VFIO: "a host that passes its GPUs through to virtual machines (vfio-pci)",
}
"""What each platform is, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CharDevice(Value):
    """A character device, as the kernel numbers it.

    ``path`` is where programs expect it (``/dev/nvidia0``), whatever the dev root. ``present``
    tells whether the node exists on the host now; the numbers come from the kernel either way.
    """

    path: str
    major: int
    minor: int
    file_mode: int = 0o666
    gid: int = 0
    present: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Driver(Value):
    """The NVIDIA driver: the loaded kernel module and the user-space libraries."""

    version: str
    """Version of the loaded kernel module, from ``/proc/driver/nvidia/version``."""
    kernel_module: str
    """``open`` or ``proprietary``; ``dxgkrnl`` on WSL 2, ``nvgpu`` on Tegra."""
    library_version: str
    """Version of the user-space libraries; differs from ``version`` in a split driver."""
    cuda_version: str | None = None
    """The newest CUDA version that its libcuda runs, ``13.0``; None where nobody asked."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Gpu(Value):
    """A full GPU."""

    index: int
    """Position in PCI order, which is NVML's index; not the minor, not CUDA's order."""
    minor: int | None = None
    """N of ``/dev/nvidiaN``; None where the driver numbers no nodes (WSL 2, Tegra, vfio-pci)."""
    uuid: str | None
    """``GPU-…``; None if neither procfs nor NVML reports it."""
    pci_address: str | None = None
    """``domain:bus:device.function`` in lower case, ``0000:3b:00.0``; None for an integrated GPU
    and in a virtual machine that does not see the bus (WSL 2)."""
    iommu_group: int | None = None
    """The group that vfio-pci gives away as a whole, N of ``/dev/vfio/N``; None elsewhere."""
    model: str
    nodes: tuple[CharDevice, ...] = ()
    """The GPU's own nodes: ``/dev/nvidiaN``, ``/dev/vfio/N``, several on Tegra. None on WSL 2:
    ``/dev/dxg`` is a control node."""
    drm_nodes: tuple[CharDevice, ...] = ()
    """``/dev/dri/cardN`` and ``/dev/dri/renderDN`` of this PCI device."""
    by_path: tuple[str, ...] = ()
    """The names below ``/dev/dri/by-path`` by which the host knows them; udev makes these links."""
    mig_enabled: bool = False
    """The GPU is divided into MIG devices and cannot be used whole."""
    compute_capability: str | None = None
    """``9.0``; None where nobody asked, for it takes NVML, or where NVML does not tell."""
    brand: str | None = None
    """NVML's brand in the words of ``NVIDIA_REQUIRE_CUDA``, ``geforce``; None likewise."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MigDevice(Value):
    """A MIG device: a compute instance within a GPU instance of a GPU."""

    gpu_index: int
    index: int
    """NVML's index among the MIG devices of its GPU."""
    uuid: str | None
    """``MIG-…``, or ``MIG-GPU-…/GI/CI`` of a driver before 470; None where it is not its own."""
    gpu_instance: int
    compute_instance: int
    profile: str
    """``1g.10gb``, ``1c.3g.40gb+me`` …; empty where NVML does not tell."""
    gpu_instance_cap: CharDevice
    compute_instance_cap: CharDevice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Library(Value):
    """A shared library of the driver."""

    path: HostPath
    bits: int
    """32 or 64."""
    soname: str
    """``DT_SONAME``, or the file's own name where it has none."""
    needed: tuple[str, ...] = ()
    """``DT_NEEDED`` in the file's order."""
    links: tuple[str, ...] = ()
    """Names in the same directory that lead to it, or to another version of the library, which
    containers do not get: ``libcuda.so``, ``libcuda.so.1``."""
    aliases: tuple[str, ...] = ()
    """Paths in other directories of the driver root that lead to it (Debian's alternatives)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DriverFile(Value):
    """A program, configuration file, firmware image, X.Org module or socket of the driver."""

    path: HostPath
    seen_at: str
    """Where programs look for it, in the driver root: a link may lead from there to ``path``."""
    entry: str
    """The name under which the catalogue lists it: ``nvidia-smi``, ``firmware`` …"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HookProgram(Value):
    """The program that specs name as their hook, and whether root may run it."""

    path: HostPath
    unsafe: str | None = None
    """Why somebody other than root could change it; None where nobody can."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Missing(Value):
    """Something a complete driver installation has and this host has not."""

    name: str
    reason: str
    code: str
    """Its key in the table of findings, docs/findings.md."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StaleNode(Value):
    """A device node that is there, with the numbers of another boot."""

    path: str
    reason: str
    code: str
    """Its key in the table of findings, docs/findings.md."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class UnusableDevice(Value):
    """A device that cannot be given to a container, and why."""

    device: str
    reason: str
    code: str
    """Its key in the table of findings, docs/findings.md."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Ignored(Value):
    """A file that looked like the driver's and was left out, and why."""

    path: str
    reason: str
    code: str
    """Its key in the table of findings, docs/findings.md."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Inventory(Value):
    """All facts of one host."""

    platform: str
    """One of ``PLATFORMS``: which driver the facts are about."""
    architecture: str
    """As ``uname -m`` prints it: ``x86_64``, ``aarch64``."""
    driver_root: str = "/"
    dev_root: str = "/"
    driver: Driver | None = None
    """None on a host without the NVIDIA driver (vfio-pci)."""
    gpus: tuple[Gpu, ...] = ()
    mig_devices: tuple[MigDevice, ...] = ()
    mig_config: CharDevice | None = None
    """The node that permits a process to configure the MIG devices of all GPUs
    (``/proc/driver/nvidia/capabilities/mig/config``); None if the driver does not support MIG."""
    mig_monitor: CharDevice | None = None
    """The node that permits a process to monitor them (``mig/monitor``)."""
    control_nodes: tuple[CharDevice, ...] = ()
    transport_nodes: tuple[CharDevice, ...] = ()
    """Of GPUDirect Storage, RDMA cards, GDRCopy, NVSwitches, IMEX channels: see the catalogue."""
    transport_files: tuple[DriverFile, ...] = ()
    """What their programs read beside them; ``entry`` is the path that the catalogue lists."""
    libraries: tuple[Library, ...] = ()
    files: tuple[DriverFile, ...] = ()
    hook: HookProgram | None = None
    engines_make_nodes: bool = True
    """Whether an engine of this host's root can make a device node. In a user namespace (LXC,
    Podman in Podman) nobody can: engines bind the host's, and start nothing if it is not there."""
    booting: bool = False
    """The host has not finished to boot, and lacks nodes that may still come."""
    missing: tuple[Missing, ...] = ()
    stale_nodes: tuple[StaleNode, ...] = ()
    unusable_devices: tuple[UnusableDevice, ...] = ()
    ignored: tuple[Ignored, ...] = ()

    def require_driver(self) -> Driver:
        """The driver.

        Raises:
            CdiGenError: the host has none.
        """
        if self.driver is None:
            message = "the inventory is of a host without the NVIDIA driver"
            raise CdiGenError(message, code="CDG-I101")
        return self.driver
