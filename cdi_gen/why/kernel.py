# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of the drivers behind device nodes: numbers in use, and modes of nodes."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property

from cdi_base import nvidia
from cdi_gen.host.devices import proc
from cdi_gen.host.roots import Root

_CAPABILITIES = "/proc/driver/nvidia/capabilities"
_CAPABILITIES_OF_NODES, _CAPABILITY = "/dev/nvidia-caps", "nvidia-cap"
_DRM_DEVICES = "/sys/class/drm"
_DRIVER_NAMES = (
    ("nvidia-uvm", ("nvidia-uvm",)),
    ("nvidia-caps-imex-channels/", ("nvidia-caps-imex-channels",)),
    ("nvidia-caps/", proc.CAPS),
    ("nvidia-nvswitch", ("nvidia-nvswitch",)),
    ("nvidia", proc.FRONTEND),
)
"""The beginnings of the names of nodes, and the names of their drivers in ``/proc/devices``."""


class Kernel:
    """The kernel of a host, as its procfs and sysfs show it."""

    def __init__(self, host_root: str) -> None:
        self._root = Root(seen_from=host_root)

    @cached_property
    def majors(self) -> dict[str, int]:
        """The major numbers by driver; empty if they are not visible."""
        return proc.majors(self._root)

    def major_of(self, path: str) -> int | None:
        """The major number that the kernel uses for a node of NVIDIA's driver; None: unknown."""
        name = path.removeprefix("/dev/")
        drivers = next((names for prefix, names in _DRIVER_NAMES if name.startswith(prefix)), ())
        return next((self.majors[driver] for driver in drivers if driver in self.majors), None)

    def agrees(self, path: str, major: int, minor: int) -> bool:
        """Whether the kernel uses these numbers for a node of NVIDIA's driver."""
        gpu = nvidia.gpu_minor(path.rpartition("/")[2])
        return self.major_of(path) == major and gpu in {None, minor}

    def lacks_gpu(self, path: str) -> bool:
        """Whether NVIDIA's driver has no GPU for the node of a GPU."""
        minor = nvidia.gpu_minor(path.rpartition("/")[2])
        return minor is not None and self._gpu_minors is not None and minor not in self._gpu_minors

    def lacks_driver(self, path: str, major: int) -> bool:
        """Whether no driver serves the major number of a node of NVIDIA's driver."""
        is_nvidias = path.startswith("/dev/nvidia")
        return is_nvidias and bool(self.majors) and major not in self.majors.values()

    def lacks_drm_device(self, path: str) -> bool:
        """Whether the kernel has no DRM device for a node in ``/dev/dri``."""
        directory, _, name = path.rpartition("/")
        if directory != "/dev/dri" or not self._root.exists(_DRM_DEVICES):
            return False
        return not self._root.exists(f"{_DRM_DEVICES}/{name}")

    def lacks_mig_instance(self, path: str) -> bool:
        """Whether the driver has no GPU or compute instance for the node of a capability."""
        directory, _, name = path.rpartition("/")
        number = name.removeprefix(_CAPABILITY)
        if directory != _CAPABILITIES_OF_NODES or number == name or not number.isdecimal():
            return False
        return self._capability_minors is not None and int(number) not in self._capability_minors

    @cached_property
    def _capability_minors(self) -> frozenset[int] | None:
        """The minor numbers of the driver's capabilities; None if they are not visible."""
        if not self._root.exists(_CAPABILITIES):
            return None
        others = (proc.mig_access(self._root, name) for name in ("config", "monitor"))
        return frozenset(
            (
                *(capability.device_minor for capability in proc.mig_capabilities(self._root)),
                *(access[0] for access in others if access),
            )
        )

    @cached_property
    def _gpu_minors(self) -> frozenset[int] | None:
        """The minor numbers of the driver's GPUs; None if they are not visible."""
        if proc.kernel_module(self._root) is None:
            return None
        minors: set[int] = set()
        for address in proc.gpu_addresses(self._root):
            # The file of a GPU that has fallen off the bus is gone, or has no number.
            with suppress(OSError, ValueError):
                minors.add(proc.gpu_information(self._root, address).minor)
        return frozenset(minors)

    def restricts(self, path: str) -> bool:
        """Whether the driver's parameters keep other users from the driver's nodes."""
        mode, _ = proc.device_file_attributes(self._root)
        return mode & 0o006 != 0o006 and not path.startswith("/dev/nvidia-uvm")


def for_group(gid: int, user: str, command: str) -> str:
    """The command that opens nodes to a user that the driver's parameters restrict to a group.

    The driver gives a node its mode and owner again, so that ``chmod`` has no lasting effect.
    """
    if gid == 0:
        return (
            "echo 'options nvidia NVreg_DeviceFileMode=0666' | sudo tee "
            "/etc/modprobe.d/nvidia-device-files.conf && sudo reboot"
        )
    return f"sudo usermod -aG {gid} {user}  # log in again; then: {command}"
