# SPDX-License-Identifier: Apache-2.0
"""Describes device nodes: numbers from the kernel, mode and owner from the dev root.

The kernel's numbers override the node's: ``nvidia-uvm`` and ``nvidia-caps`` have dynamic
majors, and a node from another boot has the wrong one (NVIDIA/nvidia-container-toolkit issue 1934).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from cdi_gen.catalogue import ControlNode
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.proc import CAPS, FRONTEND
from cdi_gen.host.result import SearchResult
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice, Missing, Record, StaleNode

GPU, CAPABILITY = "nvidia*", "nvidia-caps/nvidia-cap*"
CARD, RENDER = "dri/card*", "dri/renderD*"
OF_GPUS = (GPU, CAPABILITY, CARD, RENDER)
"""Names in /dev of the nodes of GPUs and MIG devices; ``*`` is a number."""
GRAPHICS, DRM_MODULE = "graphics", "nvidia_drm"
BY_PATH = "/dev/dri/by-path"
NODE_CODES = ("CDG-H201", "CDG-H202")
"""Codes of missing nodes: the node does not exist, its kernel module is not loaded."""
NO_NODE = (
    "the device node does not exist; engines that run as root create it, rootless engines cannot"
)


Node = SearchResult[CharDevice | None]
"""A node, with a record if it is absent or stale. None: neither the node nor its number exists."""


class DeviceNodes:
    """The character devices of a host.

    Args:
        kernel: the root with procfs and sysfs.
        dev: the root with ``/dev``.
        majors: the major numbers of ``/proc/devices``.
        served: capabilities that the host has libraries for. Without graphics libraries, a
            kernel module for graphics is not missing.
    """

    def __init__(
        self,
        kernel: Root,
        dev: Root,
        majors: dict[str, int],
        served: frozenset[str] = frozenset(),
    ) -> None:
        self._served = served
        self._kernel = kernel
        self._dev = dev
        self._majors = majors
        self._names: dict[str, list[str]] = {}

    def node(self, path: str, drivers: Sequence[str], minor: int, file_mode: int = 0o666) -> Node:
        """Return the node at ``path`` with its driver's numbers.

        None if the driver has no major number (its module is not loaded) and no node exists.
        """
        return self._node(path, self._char_device(path), drivers, minor, file_mode)

    def existing_node(self, path: str, drivers: Sequence[str], minor: int) -> Node:
        """Return the node at ``path`` likewise; None if no character device exists at ``path``."""
        status = self._char_device(path)
        return self._node(path, status, drivers, minor) if status else SearchResult(None)

    def _node(
        self,
        path: str,
        status: os.stat_result | None,
        drivers: Sequence[str],
        minor: int,
        file_mode: int = 0o666,
    ) -> Node:
        major = next((self._majors[name] for name in drivers if name in self._majors), None)
        if major is None:
            if status is None:
                return SearchResult(None)
            major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if status is None:
            gid = 0
            if drivers == FRONTEND:
                file_mode, gid = proc.device_file_attributes(self._kernel)
            absent = CharDevice(
                path=path, major=major, minor=minor, file_mode=file_mode, gid=gid, present=False
            )
            return SearchResult(absent, (Missing(name=path, reason=NO_NODE, code="CDG-H201"),))
        records: tuple[Record, ...] = ()
        if status.st_rdev != os.makedev(major, minor):
            reason = (
                f"has the numbers {os.major(status.st_rdev)}:{os.minor(status.st_rdev)} of another "
                f"boot; the kernel uses {major}:{minor}"
            )
            records = (StaleNode(path=path, reason=reason, code="CDG-H301"),)
        node = CharDevice(
            path=path,
            major=major,
            minor=minor,
            file_mode=stat.S_IMODE(status.st_mode) & 0o777,
            gid=status.st_gid,
        )
        return SearchResult(node, records)

    def names(self, directory: str) -> list[str]:
        """Return the names of the entries in a directory of the dev root."""
        if directory not in self._names:
            try:
                entries = self._dev.entries(self._dev.resolve(directory))
            except OSError:
                entries = []
            self._names[directory] = [entry.name for entry in entries]
        return self._names[directory]

    def has_driver(self, name: str) -> bool:
        """Whether the kernel has this driver; True if ``/proc/devices`` cannot be read."""
        return name in self._majors or not self._majors

    def gpu(self, minor: int) -> Node:
        """Return the node ``/dev/nvidiaN``."""
        return self.node(_numbered(GPU, minor), FRONTEND, minor)

    def no_gpu(self, minor: int) -> str | None:
        """Return why no container can get ``/dev/nvidiaN``; None if the node exists."""
        path = _numbered(GPU, minor)
        if self._char_device(path) is not None:
            return None
        try:
            self._dev.lstat(path)
        except OSError:
            return f"{path} is missing"
        return f"{path} is not a device node"

    def capability(self, minor: int, file_mode: int) -> Node:
        """Return the node ``/dev/nvidia-caps/nvidia-capN``."""
        return self.node(_numbered(CAPABILITY, minor), CAPS, minor, file_mode)

    def control(self, entries: Sequence[ControlNode]) -> SearchResult[tuple[CharDevice, ...]]:
        """Return the driver's control nodes; a node is missing if its module is not loaded."""
        nodes = []
        records: list[Record] = []
        for entry in entries:
            node: Node = SearchResult(None)
            if not entry.module or self.module_loaded(entry.module):
                node = self.node(f"/dev/{entry.name}", entry.drivers, entry.minor)
            if node.values is not None:
                nodes.append(node.values)
                records += node.records
            elif not entry.module or not entry.capabilities.isdisjoint(self._served):
                module = entry.module or entry.drivers[0].replace("-", "_")
                path = f"/dev/{entry.name}"
                reason = f"the kernel module {module} is not loaded"
                records.append(Missing(name=path, reason=reason, code="CDG-H202"))
        return SearchResult(tuple(nodes), tuple(records))

    def drm(self, pci_address: str) -> SearchResult[tuple[CharDevice, ...]]:
        """Return ``/dev/dri/cardN`` and ``renderDN`` of a PCI device, cards first."""
        try:
            directory = self._kernel.resolve(f"/sys/bus/pci/devices/{pci_address}/drm")
        except OSError:
            if GRAPHICS in self._served and not self.module_loaded(DRM_MODULE):
                reason = f"the kernel module {DRM_MODULE} is not loaded"
                path = f"/dev/{RENDER}"
                return SearchResult((), (Missing(name=path, reason=reason, code="CDG-H202"),))
            return SearchResult(())
        nodes = []
        records: list[Record] = []
        for entry in self._kernel.entries(directory):
            path = f"/dev/dri/{entry.name}"
            prefixes = (f"/dev/{pattern[:-1]}" for pattern in (CARD, RENDER))
            prefix = next((prefix for prefix in prefixes if path.startswith(prefix)), "")
            number = path[len(prefix) :]
            if not prefix or not number.isdecimal():
                continue
            node = self.numbered_by(path, f"{directory}/{entry.name}/dev")
            if node is not None:
                nodes.append((prefix, int(number), node))
            else:
                # The spec does not get this node: only graphics needs it, and rootless engines
                # cannot start a container with a node that does not exist.
                reason = "the device node does not exist"
                records.append(Missing(name=path, reason=reason, code="CDG-H201"))
        in_order = sorted(nodes, key=lambda item: item[:2])
        return SearchResult(tuple(node for *_, node in in_order), tuple(records))

    def by_path(self, pci_address: str, nodes: Sequence[CharDevice]) -> tuple[str, ...]:
        """Return the host's links in ``/dev/dri/by-path`` to these nodes of a PCI device."""
        paths = {node.path for node in nodes}
        names = set(self.names(BY_PATH))
        links = [f"pci-{pci_address}-{kind}" for kind in ("card", "render")]
        return tuple(
            link
            for name in links
            if name in names and self._resolved(link := f"{BY_PATH}/{name}") in paths
        )

    def numbered_by(self, path: str, numbers: str) -> CharDevice | None:
        """Return the node at ``path`` with the numbers of a sysfs file; None if no node exists."""
        status = self._char_device(path)
        if status is None:
            return None
        try:
            major, _, minor = self._kernel.read_text(numbers).strip().partition(":")
        except OSError:
            major = minor = ""
        if not (major.isdecimal() and minor.isdecimal()):
            major, minor = str(os.major(status.st_rdev)), str(os.minor(status.st_rdev))
        return CharDevice(
            path=path,
            major=int(major),
            minor=int(minor),
            file_mode=stat.S_IMODE(status.st_mode) & 0o777,
            gid=status.st_gid,
        )

    def _resolved(self, path: str) -> str | None:
        try:
            return self._dev.resolve(path)
        except OSError:
            return None

    def module_loaded(self, module: str) -> bool:
        """Whether the kernel module is loaded or built in."""
        return self._kernel.exists(f"/sys/module/{module}")

    def _char_device(self, path: str) -> os.stat_result | None:
        try:
            status = self._dev.lstat(path)
        except OSError:
            return None
        return status if stat.S_ISCHR(status.st_mode) else None


def _numbered(name: str, number: int) -> str:
    return f"/dev/{name[:-1]}{number}"
