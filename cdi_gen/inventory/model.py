# SPDX-License-Identifier: Apache-2.0
"""The types of the inventory: everything cdi-gen knows about a host, as one immutable value.

``cdi_gen.host`` probes the host and returns the inventory; ``cdi_gen.generate`` turns it into a CDI
spec; ``cdi_gen.inventory.json_form`` reads and writes its JSON form, so that any host can be a test
case, a bug report or a fleet check. It holds facts and no decisions: ``generate`` decides which
facts reach a container. Tuples are sorted, so that equal hosts give equal inventories.

A fact that a platform does not have is None or an empty tuple: a GPU of WSL 2 has no minor number
and no node of its own. ``cdi_gen.inventory.validation`` checks what each platform must have.
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
"""Descriptions of the platforms, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CharDevice(Value):
    """A character device with the kernel's numbers.

    ``path`` is the path that programs open (``/dev/nvidia0``), without the dev root. ``present``
    says whether the node exists on the host; the numbers come from the kernel in both cases.
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
    """The newest CUDA version that libcuda supports, ``13.0``; None if libcuda was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Gpu(Value):
    """A full GPU."""

    index: int
    """Position in PCI order. It is NVML's index, and neither the minor number nor CUDA's index."""
    minor: int | None = None
    """N of ``/dev/nvidiaN``; None if the GPU has no such node (WSL 2, Tegra, vfio-pci)."""
    uuid: str | None
    """``GPU-…``; None if neither procfs nor NVML reports it."""
    pci_address: str | None = None
    """``domain:bus:device.function`` in lower case, ``0000:3b:00.0``; None for an integrated GPU
    and in a virtual machine that does not see the bus (WSL 2)."""
    iommu_group: int | None = None
    """The IOMMU group, N of ``/dev/vfio/N``, which vfio-pci passes as a whole; None elsewhere."""
    model: str
    nodes: tuple[CharDevice, ...] = ()
    """The GPU's own nodes: ``/dev/nvidiaN``, ``/dev/vfio/N``, several on Tegra. Empty on WSL 2,
    where ``/dev/dxg`` is a control node."""
    drm_nodes: tuple[CharDevice, ...] = ()
    """``/dev/dri/cardN`` and ``/dev/dri/renderDN`` of this PCI device."""
    by_path: tuple[str, ...] = ()
    """The links to the DRM nodes in ``/dev/dri/by-path`` that the host has. udev creates them."""
    mig_enabled: bool = False
    """The GPU is divided into MIG devices and cannot be used whole."""
    compute_capability: str | None = None
    """``9.0``; None if NVML was not asked or does not report it."""
    brand: str | None = None
    """NVML's brand in the words of ``NVIDIA_REQUIRE_CUDA``, ``geforce``; None if NVML was not asked
    or does not report it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MigDevice(Value):
    """A MIG device: a compute instance within a GPU instance of a GPU."""

    gpu_index: int
    index: int
    """NVML's index among the MIG devices of its GPU."""
    uuid: str | None
    """``MIG-…``, or ``MIG-GPU-…/GI/CI`` of a driver before 470; None if it is not unique."""
    gpu_instance: int
    compute_instance: int
    profile: str
    """``1g.10gb``, ``1c.3g.40gb+me`` …; empty if NVML does not report it."""
    gpu_instance_cap: CharDevice
    compute_instance_cap: CharDevice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Library(Value):
    """A shared library of the driver."""

    path: HostPath
    bits: int
    """32 or 64."""
    soname: str
    """``DT_SONAME``, or the file name if the library has no SONAME."""
    needed: tuple[str, ...] = ()
    """``DT_NEEDED`` in the file's order."""
    links: tuple[str, ...] = ()
    """Names of links in the same directory to this file or to another version of the library, which
    containers do not get: ``libcuda.so``, ``libcuda.so.1``."""
    aliases: tuple[str, ...] = ()
    """Paths of links in other directories of the driver root (Debian's alternatives)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DriverFile(Value):
    """A program, configuration file, firmware image, X.Org module or socket of the driver."""

    path: HostPath
    seen_at: str
    """The path in the driver root that programs open; it may be a link to ``path``."""
    entry: str
    """The name of the catalogue's entry: ``nvidia-smi``, ``firmware`` …"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HookProgram(Value):
    """The program that specs name as their hook, and why root must not run it, if so."""

    path: HostPath
    unsafe: str | None = None
    """Why a user other than root could change the program; None if only root can."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Missing(Value):
    """A file, node or fact that a complete driver installation has and that this host lacks."""

    name: str
    reason: str
    code: str
    """The code of the finding, see docs/findings.md."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StaleNode(Value):
    """A device node that exists with the device numbers of another boot."""

    path: str
    reason: str
    code: str
    """The code of the finding, see docs/findings.md."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class UnusableDevice(Value):
    """A device that cannot be given to a container, and why."""

    device: str
    reason: str
    code: str
    """The code of the finding, see docs/findings.md."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Ignored(Value):
    """A file or node that looks like the driver's and is left out, and why."""

    path: str
    reason: str
    code: str
    """The code of the finding, see docs/findings.md."""


Record = UnusableDevice | StaleNode | Ignored | Missing
"""A fact about something that a search did not find, or that containers cannot get."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Inventory(Value):
    """All facts of one host."""

    platform: str
    """A key of ``PLATFORMS``."""
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
    """The node that permits a process to monitor the MIG devices of all GPUs (``mig/monitor``)."""
    control_nodes: tuple[CharDevice, ...] = ()
    transport_nodes: tuple[CharDevice, ...] = ()
    """Nodes of GPUDirect Storage, RDMA cards, GDRCopy, NVSwitches and IMEX channels."""
    transport_files: tuple[DriverFile, ...] = ()
    """Files that programs need with the nodes; ``entry`` is the path that the catalogue lists."""
    libraries: tuple[Library, ...] = ()
    files: tuple[DriverFile, ...] = ()
    hook: HookProgram | None = None
    engines_make_nodes: bool = True
    """Whether an engine that runs as root can create device nodes. In a user namespace (LXC, Podman
    in Podman) no process can: engines bind-mount the host's node and fail if it is missing."""
    booting: bool = False
    """Whether the host is still booting and lacks nodes that may be created later."""
    missing: tuple[Missing, ...] = ()
    stale_nodes: tuple[StaleNode, ...] = ()
    unusable_devices: tuple[UnusableDevice, ...] = ()
    ignored: tuple[Ignored, ...] = ()

    def require_driver(self) -> Driver:
        """Return the driver.

        Raises:
            CdiGenError: the host has no driver.
        """
        if self.driver is None:
            message = "the inventory is of a host without the NVIDIA driver"
            raise CdiGenError(message, code="CDG-I101")
        return self.driver
