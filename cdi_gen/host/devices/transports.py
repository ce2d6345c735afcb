# SPDX-License-Identifier: Apache-2.0
"""Nodes and files of the ways for data to and from GPUs that have nodes of their own.

GPUDirect Storage, RDMA network cards, GDRCopy, NVSwitches and IMEX channels: the catalogue lists
them. The nodes in the dev root are taken, for nobody but their makers knows how many there are to
be; their numbers are the kernel's.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from cdi_gen.catalogue import Transport, TransportNode
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice, DriverFile, Left
from cdi_gen.paths import HostPath, is_safe, parent, printable


class Found(NamedTuple):
    """What a host has of all transports, in the catalogue's order, nodes by their numbers."""

    nodes: tuple[CharDevice, ...]
    files: tuple[DriverFile, ...]
    left: tuple[Left, ...]


class TransportSearch:
    """Looks in the dev root for nodes, and in the driver root and the host for files.

    Args:
        devices: the dev root's.
        roots: where to look for files, the first first.
    """

    def __init__(self, devices: DeviceNodes, roots: tuple[Root, ...]) -> None:
        self._devices = devices
        self._roots = roots
        self._names: dict[str, list[str]] = {}
        self._left: list[Left] = []

    def find(self, transports: tuple[Transport, ...]) -> Found:
        """All that is there; files only of those that have a node."""
        nodes: list[CharDevice] = []
        files: list[DriverFile] = []
        for transport in transports:
            own = [node for entry in transport.nodes for node in self._nodes(entry)]
            nodes += own
            if own:
                files += [file for path in transport.files for file in self._file(path)]
        return Found(nodes=tuple(nodes), files=tuple(files), left=tuple(self._left))

    def _nodes(self, entry: TransportNode) -> list[CharDevice]:
        directory = parent(f"/dev/{entry.name}")
        if directory not in self._names:
            self._names[directory] = self._devices.names(directory)
        below = directory.removeprefix("/dev").lstrip("/")
        prefix = f"{below}/" if below else ""
        numbers = sorted(
            (number, name)
            for name in self._names[directory]
            if (number := entry.number(f"{prefix}{name}")) is not None
        )
        if numbers and entry.driver and not self._devices.has_driver(entry.driver):
            # Its major may be another driver's by now.
            reason = f"the kernel has no driver {entry.driver}: the node is left from before"
            self._left += [
                Left(path=f"{directory}/{name}", reason=reason, code="CDG-H302")
                for _, name in numbers
            ]
            return []
        found = (self._node(entry, directory, name, number) for number, name in numbers)
        return [node for node in found if node is not None]

    def _node(
        self, entry: TransportNode, directory: str, name: str, number: int
    ) -> CharDevice | None:
        path = f"{directory}/{name}"
        if entry.sysfs_class:
            return self._devices.numbered_by(path, f"/sys/class/{entry.sysfs_class}/{name}/dev")
        minor = number if entry.minor is None else entry.minor
        return self._devices.node_that_is_there(path, (entry.driver or "",), minor)

    def _file(self, named: str) -> list[DriverFile]:
        """The file or directory in the first root that has it."""
        for root in self._roots:
            try:
                path = root.resolve(named)
                mode = os.lstat(root.open_path(path)).st_mode
            except OSError:
                continue
            if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and is_safe(path):
                return [DriverFile(path=HostPath(root.host_path(path)), seen_at=named, entry=named)]
            reason = "neither a file nor a directory whose name is fit for a spec"
            self._left.append(Left(path=printable(named), reason=reason, code="CDG-H408"))
        return []
