# SPDX-License-Identifier: Apache-2.0
"""Finds nodes and files of transports: means of data transfer to and from GPUs.

The catalogue lists GPUDirect Storage, RDMA network cards, GDRCopy, NVSwitches and IMEX channels.
The search takes the nodes that exist in the dev root, because the number of nodes is not known in
advance. Device numbers come from the kernel.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from cdi_gen.catalogue import Transport, TransportNode
from cdi_gen.host.devices.nodes import DeviceNodes, Node
from cdi_gen.host.result import SearchResult
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice, DriverFile, Ignored, Record
from cdi_gen.paths import HostPath, is_safe, parent, printable


class Transports(NamedTuple):
    """Nodes and files of all transports, in the catalogue's order, nodes by number."""

    nodes: tuple[CharDevice, ...]
    files: tuple[DriverFile, ...]


class TransportSearch:
    """Searches the dev root for nodes, and the driver root and the host for files.

    Args:
        devices: the nodes of the dev root.
        roots: the roots to search for files, in this order.
    """

    def __init__(self, devices: DeviceNodes, roots: tuple[Root, ...]) -> None:
        self._devices = devices
        self._roots = roots

    def find(self, transports: tuple[Transport, ...]) -> SearchResult[Transports]:
        """Return the transports of the host; files only of transports with a node."""
        nodes: list[CharDevice] = []
        files: list[DriverFile] = []
        records: list[Record] = []
        for transport in transports:
            results = [self._nodes(entry) for entry in transport.nodes]
            transport_nodes = [node for result in results for node in result.values]
            nodes += transport_nodes
            records += [record for result in results for record in result.records]
            if transport_nodes:
                for path in transport.files:
                    file = self._file(path)
                    files += file.values
                    records += file.records
        return SearchResult(Transports(tuple(nodes), tuple(files)), tuple(records))

    def _nodes(self, entry: TransportNode) -> SearchResult[list[CharDevice]]:
        directory = parent(f"/dev/{entry.name}")
        below = directory.removeprefix("/dev").lstrip("/")
        prefix = f"{below}/" if below else ""
        numbers = sorted(
            (number, name)
            for name in self._devices.names(directory)
            if (number := entry.number(f"{prefix}{name}")) is not None
        )
        if numbers and entry.driver and not self._devices.has_driver(entry.driver):
            # The major number may belong to another driver now.
            reason = f"the kernel has no driver {entry.driver}; the node is of an unloaded module"
            paths = [f"{directory}/{name}" for _, name in numbers]
            records = tuple(Ignored(path=path, reason=reason, code="CDG-H302") for path in paths)
            return SearchResult([], records)
        nodes = [self._node(entry, directory, name, number) for number, name in numbers]
        return SearchResult(
            [node.values for node in nodes if node.values is not None],
            tuple(record for node in nodes for record in node.records),
        )

    def _node(self, entry: TransportNode, directory: str, name: str, number: int) -> Node:
        path = f"{directory}/{name}"
        if entry.sysfs_class:
            numbers = f"/sys/class/{entry.sysfs_class}/{name}/dev"
            return SearchResult(self._devices.numbered_by(path, numbers))
        minor = number if entry.minor is None else entry.minor
        return self._devices.existing_node(path, (entry.driver or "",), minor)

    def _file(self, named: str) -> SearchResult[list[DriverFile]]:
        """Return the file or directory in the first root that has it."""
        records: list[Record] = []
        for root in self._roots:
            try:
                path = root.resolve(named)
                mode = os.lstat(root.open_path(path)).st_mode
            except OSError:
                continue
            if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and is_safe(path):
                file = DriverFile(path=HostPath(root.host_path(path)), seen_at=named, entry=named)
                return SearchResult([file], tuple(records))
            reason = "neither a file nor a directory, or a name that cannot be used in a spec"
            records.append(Ignored(path=printable(named), reason=reason, code="CDG-H408"))
        return SearchResult([], tuple(records))
