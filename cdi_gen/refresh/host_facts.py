# SPDX-License-Identifier: Apache-2.0
"""Reads the facts of the host that installed specs are compared with: no NVML, no search for files.

Only procfs, sysfs and the attributes of files that specs name are read, which takes some
milliseconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from cdi_gen.catalogue import catalogue
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.proc import CAPS, FRONTEND
from cdi_gen.host.roots import Root

_DRM_PREFIXES = ("/dev/dri/card", "/dev/dri/renderD")


class Gpu(NamedTuple):
    """A GPU of the kernel module."""

    number: int
    """The index, as in the inventory."""
    minor: int
    uuid: str | None
    pci_address: str
    drm_nodes: frozenset[str] | None = None
    """Paths in ``/dev/dri``; None if sysfs does not show them. Which numbers the nodes of a GPU
    have depends on the order in which the kernel's modules are loaded."""


class Instance(NamedTuple):
    """A compute instance of a GPU, and the capability nodes that a container needs."""

    gpu_minor: int
    gpu_instance: int
    compute_instance: int
    minors: frozenset[int]


class Node(NamedTuple):
    """The numbers of a device node."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}"


class HostFacts(NamedTuple):
    """What specs depend on."""

    driver_version: str | None
    """None: no driver is loaded."""
    gpus: tuple[Gpu, ...]
    instances: tuple[Instance, ...]
    capability_minors: frozenset[int]
    """Minor numbers of all capability nodes of MIG."""
    majors: dict[str, int]
    """Major numbers of character devices, by the driver's name."""
    nodes: dict[str, Node]
    """The character devices that specs name and the host has, by path of the host."""
    paths: frozenset[str]
    """The other paths that specs name and the host has, or that this user may not see."""

    def kernel_numbers(self, path: str) -> Node | None:
        """Return the numbers that the kernel gives a node of the driver.

        None if the node is not the driver's, or its module is not loaded.
        """
        drivers: tuple[str, ...] = FRONTEND
        minor = gpu_minor(path)
        if minor is None:
            drivers, minor = CAPS, capability_minor(path)
        if minor is None:
            entries = catalogue().control_nodes
            entry = next((entry for entry in entries if path == f"/dev/{entry.name}"), None)
            if entry is None:
                return None
            drivers, minor = entry.drivers, entry.minor
        major = next((self.majors[driver] for driver in drivers if driver in self.majors), None)
        return None if major is None else Node(major, minor)


def gpu_minor(path: str) -> int | None:
    """Return N of ``/dev/nvidiaN``; None for other paths."""
    return _number(path, "/dev/nvidia")


def capability_minor(path: str) -> int | None:
    """Return N of ``/dev/nvidia-caps/nvidia-capN``; None for other paths."""
    return _number(path, "/dev/nvidia-caps/nvidia-cap")


def is_drm_node(path: str) -> bool:
    """Whether a path is ``/dev/dri/cardN`` or ``/dev/dri/renderDN``."""
    return any(_number(path, prefix) is not None for prefix in _DRM_PREFIXES)


def _number(path: str, prefix: str) -> int | None:
    digits = path.removeprefix(prefix)
    is_number = digits != path and digits.isascii() and digits.isdecimal() and len(digits) < 8
    return int(digits) if is_number else None


def read(paths: Iterable[str], host_root: str = "/") -> HostFacts:
    """Return the facts.

    Args:
        paths: the paths of the host that specs name: nodes, mounted files, programs.
        host_root: the path of the host's ``/`` for this process.
    """
    root = Root(seen_from=host_root)
    module = proc.kernel_module(root)
    nodes: dict[str, Node] = {}
    existing: set[str] = set()
    for path in paths:
        try:
            status = os.stat(root.open_path(root.resolve(path)))
        except PermissionError:
            existing.add(path)  # in a directory that this user may not search: it is not missing
            continue
        except (OSError, ValueError):
            continue
        if stat.S_ISCHR(status.st_mode):
            nodes[path] = Node(os.major(status.st_rdev), os.minor(status.st_rdev))
        else:
            existing.add(path)
    capabilities = proc.mig_capabilities(root)
    access = (proc.mig_access(root, name) for name in ("config", "monitor"))
    minors = [item.device_minor for item in capabilities]
    minors += [numbers[0] for numbers in access if numbers]
    return HostFacts(
        driver_version=module.version if module else None,
        gpus=tuple(_gpus(root)) if module else (),
        instances=tuple(_instances(capabilities)),
        capability_minors=frozenset(minors),
        majors=proc.majors(root),
        nodes=nodes,
        paths=frozenset(existing),
    )


def _gpus(root: Root) -> Iterable[Gpu]:
    """Yield the GPUs that containers can get, with the indices of `cdi_gen.host`."""
    index = 0
    for address in proc.gpu_addresses(root):
        try:
            information = proc.gpu_information(root, address)
        except (OSError, ValueError):
            index += 1  # a broken GPU keeps its index
            continue
        if information.excluded:
            continue
        if not proc.is_off_the_bus(root, address):
            nodes = _drm_nodes(root, address)
            yield Gpu(index, information.minor, information.uuid, address, nodes)
        index += 1


def _drm_nodes(root: Root, address: str) -> frozenset[str] | None:
    """Return the DRM nodes of a GPU; there is none if its module nvidia_drm is not loaded."""
    try:
        device = root.resolve(f"/sys/bus/pci/devices/{address}")
        names = [entry.name for entry in root.entries(f"{device}/drm")]
    except OSError:
        return None
    return frozenset(path for name in names if is_drm_node(path := f"/dev/dri/{name}"))


def _instances(capabilities: list[proc.MigCapability]) -> Iterable[Instance]:
    of_gpu_instances = {
        (item.gpu_minor, item.gpu_instance): item.device_minor
        for item in capabilities
        if item.compute_instance is None
    }
    for item in capabilities:
        above = of_gpu_instances.get((item.gpu_minor, item.gpu_instance))
        if item.compute_instance is not None and above is not None:
            yield Instance(
                item.gpu_minor,
                item.gpu_instance,
                item.compute_instance,
                frozenset({above, item.device_minor}),
            )
