# SPDX-License-Identifier: Apache-2.0
"""Says which device nodes the driver has, by the facts of the kernel.

The same nodes as nvidia-modprobe creates, with the same mode and owner (nvidia-modprobe-utils.c):
the module's parameters count for nodes of the main major, the file in procfs for a capability;
nvidia-uvm always belongs to root and has mode 0666.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.catalogue import ControlNode, catalogue
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import CAPABILITY, GPU
from cdi_gen.host.devices.proc import CAPS, FRONTEND
from cdi_gen.host.roots import Root

ANY_FILE_MODE = 0o666


class DriverNode(NamedTuple):
    """A device node as it should be."""

    path: str
    """In the dev root: ``/dev/nvidia0``."""
    major: int
    minor: int
    file_mode: int = ANY_FILE_MODE
    uid: int = 0
    gid: int = 0

    @property
    def numbers(self) -> str:
        """The numbers as names in ``/dev/char`` have them."""
        return f"{self.major}:{self.minor}"


class DriverNodes(NamedTuple):
    """Nodes of a host, and those that it cannot have."""

    nodes: tuple[DriverNode, ...]
    unloaded: tuple[tuple[str, str], ...] = ()
    """Control nodes whose kernel module is not loaded, with the module."""

    def without(self, major: int | None) -> DriverNodes:
        """Return the nodes that have another major number."""
        nodes = tuple(node for node in self.nodes if node.major != major)
        return self._replace(nodes=nodes)


class KernelFacts:
    """What the kernel says of the driver's nodes.

    Args:
        kernel: the root with procfs and sysfs.
    """

    def __init__(self, kernel: Root) -> None:
        self._kernel = kernel
        self._majors = proc.majors(kernel)
        self._attributes = proc.device_file_attributes(kernel)
        self._uid = proc.device_file_owner(kernel)
        self.manages_main_nodes = proc.manages_device_files(kernel)
        """Whether programs may create the nodes of the main major number."""

    @property
    def has_driver(self) -> bool:
        """Whether the kernel module is loaded."""
        return self.major(FRONTEND) is not None

    def major(self, drivers: tuple[str, ...]) -> int | None:
        """Return the major number of the first driver that has one."""
        return next((self._majors[name] for name in drivers if name in self._majors), None)

    def control(self) -> DriverNodes:
        """Return the nodes that belong to no single GPU; of loaded modules only."""
        nodes, unloaded = [], []
        for entry in catalogue().control_nodes:
            path = f"/dev/{entry.name}"
            major = self.major(entry.drivers)
            module = entry.module or entry.drivers[0].replace("-", "_")
            if major is None or (entry.module and not self._is_loaded(entry.module)):
                unloaded.append((path, module))
            else:
                nodes.append(self.control_node(entry, major))
        return DriverNodes(tuple(nodes), tuple(unloaded))

    def control_node(self, entry: ControlNode, major: int) -> DriverNode:
        """Return a control node of the catalogue."""
        if entry.drivers != FRONTEND:
            return DriverNode(f"/dev/{entry.name}", major, entry.minor)
        return self._frontend_node(f"/dev/{entry.name}", major, entry.minor)

    def gpus(self) -> Iterator[DriverNode]:
        """Yield the nodes of the GPUs that the module uses."""
        major = self.major(FRONTEND)
        for address in proc.gpu_addresses(self._kernel) if major is not None else ():
            try:
                information = proc.gpu_information(self._kernel, address)
            except (OSError, ValueError):
                continue  # `generate` reports the GPU
            if not information.excluded:
                yield self.gpu(information.minor)

    def gpu(self, minor: int) -> DriverNode:
        """Return the node of a GPU."""
        return self._frontend_node(f"/dev/{GPU[:-1]}{minor}", self.major(FRONTEND) or 0, minor)

    def capabilities(self) -> Iterator[DriverNode]:
        """Yield the nodes of MIG: to configure, to monitor, and of each instance that exists."""
        major = self.major(CAPS)
        if major is None:
            return
        for access in ("config", "monitor"):
            numbers = proc.mig_access(self._kernel, access)
            if numbers is not None:
                yield capability_node(major, *numbers)
        for item in proc.mig_capabilities(self._kernel):
            yield capability_node(major, item.device_minor, item.file_mode)

    def _frontend_node(self, path: str, major: int, minor: int) -> DriverNode:
        file_mode, gid = self._attributes
        return DriverNode(path, major, minor, file_mode, self._uid, gid)

    def _is_loaded(self, module: str) -> bool:
        return self._kernel.exists(f"/sys/module/{module}")


def capability_node(major: int, minor: int, file_mode: int = 0o444) -> DriverNode:
    """Return the node of a capability."""
    return DriverNode(f"/dev/{CAPABILITY[:-1]}{minor}", major, minor, file_mode)
