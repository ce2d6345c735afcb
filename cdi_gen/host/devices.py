# SPDX-License-Identifier: Apache-2.0
"""Device nodes: their numbers from the kernel, their mode and owner from the dev root.

The kernel's numbers count: ``nvidia-uvm`` and ``nvidia-caps`` have dynamic majors, and a node
from another boot has the wrong one (NVIDIA/nvidia-container-toolkit issue 1934).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from cdi_gen.catalogue import ControlNode
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice, Missing

FRONTEND = ("nvidia", "nvidia-frontend")
"""Names of the driver's main major in ``/proc/devices``; the second up to driver 460."""
CAPS = ("nvidia-caps",)


class DeviceNodes:
    """The character devices of a host, and what is odd about them."""

    def __init__(self, kernel: Root, dev: Root, majors: dict[str, int]) -> None:
        self._kernel = kernel
        self._dev = dev
        self._majors = majors
        self.missing: list[Missing] = []

    def node(
        self, path: str, drivers: Sequence[str], minor: int, file_mode: int = 0o666
    ) -> CharDevice | None:
        """The node at ``path``, numbered as the driver that owns it says.

        None where the driver has no major number (its module is not loaded) and no node either.
        """
        return self._node(path, self._char_device(path), drivers, minor, file_mode)

    def node_that_is_there(
        self, path: str, drivers: Sequence[str], minor: int
    ) -> CharDevice | None:
        """The same; None where there is no character device at ``path``."""
        found = self._char_device(path)
        return self._node(path, found, drivers, minor) if found else None

    def _node(
        self,
        path: str,
        found: os.stat_result | None,
        drivers: Sequence[str],
        minor: int,
        file_mode: int = 0o666,
    ) -> CharDevice | None:
        major = next((self._majors[name] for name in drivers if name in self._majors), None)
        if major is None:
            if found is None:
                return None
            major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
        if found is None:
            self.missing.append(
                Missing(name=path, reason="no such device node; engines make it from its numbers")
            )
            return CharDevice(
                path=path, major=major, minor=minor, file_mode=file_mode, present=False
            )
        if found.st_rdev != os.makedev(major, minor):
            self.missing.append(
                Missing(
                    name=path,
                    reason=f"has the numbers {os.major(found.st_rdev)}:{os.minor(found.st_rdev)} "
                    f"of another boot; the kernel's are {major}:{minor}",
                )
            )
        return CharDevice(
            path=path,
            major=major,
            minor=minor,
            file_mode=stat.S_IMODE(found.st_mode) & 0o777,
            gid=found.st_gid,
        )

    def names(self, directory: str) -> list[str]:
        """What is in a directory of the dev root."""
        try:
            resolved = self._dev.resolve(directory)
        except OSError:
            return []
        return [entry.name for entry in self._dev.entries(resolved)]

    def has_driver(self, name: str) -> bool:
        """Whether the kernel has a driver of this name, or does not tell which it has."""
        return name in self._majors or not self._majors

    def gpu(self, minor: int) -> CharDevice | None:
        """``/dev/nvidiaN``."""
        return self.node(f"/dev/nvidia{minor}", FRONTEND, minor)

    def capability(self, minor: int, file_mode: int) -> CharDevice | None:
        """``/dev/nvidia-caps/nvidia-capN``."""
        return self.node(f"/dev/nvidia-caps/nvidia-cap{minor}", CAPS, minor, file_mode)

    def control(self, entries: Sequence[ControlNode]) -> tuple[CharDevice, ...]:
        """The driver's own nodes; those whose module is not loaded become ``missing``."""
        nodes = []
        for entry in entries:
            if entry.module and not self._module_loaded(entry.module):
                continue
            node = self.node(f"/dev/{entry.name}", entry.drivers, entry.minor)
            if node is not None:
                nodes.append(node)
            else:
                self.missing.append(
                    Missing(
                        name=f"/dev/{entry.name}",
                        reason=f"the kernel module {entry.drivers[0].replace('-', '_')} is not "
                        "loaded",
                    )
                )
        return tuple(nodes)

    def drm(self, pci_address: str) -> tuple[CharDevice, ...]:
        """``/dev/dri/cardN`` and ``renderDN`` of a PCI device, cards first."""
        try:
            directory = self._kernel.resolve(f"/sys/bus/pci/devices/{pci_address}/drm")
        except OSError:
            return ()
        nodes = []
        for entry in self._kernel.entries(directory):
            prefix = next((each for each in ("card", "renderD") if entry.name.startswith(each)), "")
            number = entry.name[len(prefix) :]
            if not prefix or not number.isdecimal():
                continue
            node = self.numbered_by(f"/dev/dri/{entry.name}", f"{directory}/{entry.name}/dev")
            if node is not None:
                nodes.append((prefix, int(number), node))
        return tuple(node for *_, node in sorted(nodes, key=lambda each: each[:2]))

    def numbered_by(self, path: str, numbers: str) -> CharDevice | None:
        """The node at ``path``, numbered as a file of sysfs says; None where there is no node."""
        found = self._char_device(path)
        if found is None:
            return None
        try:
            major, _, minor = self._kernel.read_text(numbers).strip().partition(":")
        except OSError:
            major = minor = ""
        if not (major.isdecimal() and minor.isdecimal()):
            major, minor = str(os.major(found.st_rdev)), str(os.minor(found.st_rdev))
        return CharDevice(
            path=path,
            major=int(major),
            minor=int(minor),
            file_mode=stat.S_IMODE(found.st_mode) & 0o777,
            gid=found.st_gid,
        )

    def _module_loaded(self, module: str) -> bool:
        try:
            self._kernel.lstat(f"/sys/module/{module}")
        except OSError:
            return False
        return True

    def _char_device(self, path: str) -> os.stat_result | None:
        try:
            found = self._dev.lstat(path)
        except OSError:
            return None
        return found if stat.S_ISCHR(found.st_mode) else None
