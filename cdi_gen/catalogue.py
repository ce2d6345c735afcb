# SPDX-License-Identifier: Apache-2.0
"""The catalogue of the NVIDIA driver's files and nodes, with the capabilities that need them.

The facts are in ``specs/cdi_specs/driver_files.json``; this module defines their types. ``host``
searches the files of the catalogue, ``generate`` selects files by capability.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import cdi_specs
from cdi_gen.errors import UsageError

EVERY = "*"
"""Stands for every capability: the file is part of each spec."""


class Capability(NamedTuple):
    """A driver capability, as in ``NVIDIA_DRIVER_CAPABILITIES``."""

    name: str
    default: bool
    """Whether ``all`` includes the capability."""
    requires: tuple[str, ...]
    meaning: str


class ControlNode(NamedTuple):
    """A device node that belongs to the driver and not to one GPU."""

    name: str
    drivers: tuple[str, ...]
    """Names in ``/proc/devices`` that may have the node's major number; the first existing name
    counts."""
    minor: int
    capabilities: frozenset[str]
    module: str | None
    """The kernel module without which the node is not usable."""


class TransportNode(NamedTuple):
    """The device nodes of a transport: one node, or several nodes whose names have a number."""

    name: str
    """The path below /dev; a ``*`` at the end stands for a decimal number."""
    driver: str | None
    """The name in ``/proc/devices`` that has the major number."""
    minor: int | None
    """The minor number; None: the number in the name."""
    sysfs_class: str | None
    """If several drivers have such nodes: the directory in /sys/class with both numbers."""

    def number(self, name: str) -> int | None:
        """Return the number in the name of a node; 0 without number; None for other names."""
        if not self.name.endswith("*"):
            return 0 if name == self.name else None
        prefix = self.name[:-1]
        digits = name[len(prefix) :]
        if not name.startswith(prefix) or not digits.isascii() or not digits.isdecimal():
            return None
        # The kernel writes no leading zeros, and MINORBITS limits the number to 7 digits.
        return int(digits) if len(digits) <= 7 and str(int(digits)) == digits else None


class Transport(NamedTuple):
    """A technology that moves data to and from GPUs and has device nodes of its own."""

    mode: str
    """The mode of nvidia-ctk: ``gds``, ``mofed``, ``gdrcopy``, ``nvswitch``, ``imex``."""
    class_: str
    """The class of the CDI kind."""
    meaning: str
    nodes: tuple[TransportNode, ...]
    files: tuple[str, ...]
    """Files and directories of the host that programs need besides the nodes."""


class LinkRule(NamedTuple):
    """A symbolic link to a library that programs expect."""

    library: str
    target: str
    """The target of the link; ``{file}`` stands for the library's file name."""
    link: str
    """The name of the link, beside the library; or a path below a library directory, for a module
    that another library opens by its path."""


class FileEntry(NamedTuple):
    """A file other than a shared library."""

    name: str
    kind: str
    """``program``, ``data``, ``xorg``, ``firmware`` or ``socket``."""
    capabilities: frozenset[str]
    container: str
    """The directory in the container for ``name``, for data files."""
    under: tuple[str, ...]
    """The directories of the host, for sockets."""
    companion: str | None
    """The library that needs the file and that the file needs."""
    alternative: str | None
    """Another entry that serves the same purpose."""
    module: str | None
    """The path below a library directory at which a program opens the file."""


class Catalogue(NamedTuple):
    """The facts about the driver's files and nodes."""

    capabilities: tuple[Capability, ...]
    control_nodes: tuple[ControlNode, ...]
    transports: tuple[Transport, ...]
    libraries: dict[str, frozenset[str]]
    """The capabilities of each library, by the library's name up to ``.so``."""
    unversioned: frozenset[str]
    """Libraries whose file name does not end in the driver's version."""
    plain: frozenset[str]
    """Libraries that programs also open by a name without number, as ``libcuda.so``."""
    in_images: frozenset[str]
    """Libraries that an image may contain too, for forward compatibility or as stubs."""
    links: tuple[LinkRule, ...]
    files: tuple[FileEntry, ...]
    directories: dict[str, tuple[str, ...]]
    """The directories to search below the driver root, by kind. ``host`` fills in ``{…}``."""
    image_directories: dict[str, tuple[str, ...]]
    """The directories that programs in images use, for all distributions. ``library``: the
    libraries of an image; modules that are opened by their path are below ``library`` and ``xorg``;
    ``driver`` is searched before the directories in which images have libraries of ``in_images``.
    ``{triplet}`` is Debian's name of the architecture."""
    cuda_versions: dict[str, str]
    """The newest CUDA version that a branch of the driver (``580``) supports, by branch."""

    def select(self, names: Iterable[str]) -> frozenset[str]:
        """Return the requested capabilities and the capabilities that they require.

        ``all`` stands for every default capability.

        Raises:
            UsageError: a name is not a capability.
        """
        by_name = {capability.name: capability for capability in self.capabilities}
        selected: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name == "all":
                pending += [
                    capability.name for capability in by_name.values() if capability.default
                ]
            elif name not in by_name:
                raise UsageError(
                    f"unknown driver capability: {name}",
                    hint=f"the capabilities are all, {', '.join(by_name)}",
                    code="CDG-U003",
                    subject=name,
                )
            elif name not in selected:
                selected.add(name)
                pending += by_name[name].requires
        return frozenset(selected)


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """Return the catalogue of this version."""
    data = json.loads(cdi_specs.read_text("driver_files.json"))
    return Catalogue(
        capabilities=tuple(
            Capability(
                name=name,
                default=item["default"],
                requires=tuple(item["requires"]),
                meaning=item["meaning"],
            )
            for name, item in data["capabilities"].items()
        ),
        control_nodes=tuple(
            ControlNode(
                name=item["name"],
                drivers=tuple(item["driver"]),
                minor=item["minor"],
                capabilities=frozenset(item["capabilities"]),
                module=item.get("module"),
            )
            for item in data["control_nodes"]
        ),
        transports=tuple(_transport(mode, item) for mode, item in data["transports"].items()),
        libraries={item["name"]: frozenset(item["capabilities"]) for item in data["libraries"]},
        unversioned=frozenset(
            item["name"] for item in data["libraries"] if item.get("unversioned")
        ),
        plain=frozenset(item["name"] for item in data["libraries"] if item.get("plain")),
        in_images=frozenset(item["name"] for item in data["libraries"] if item.get("in_images")),
        links=tuple(
            LinkRule(library=item["library"], target=item["target"], link=item["link"])
            for item in data["links"]
        ),
        files=tuple(
            FileEntry(
                name=item["name"],
                kind=item["kind"],
                capabilities=frozenset(item["capabilities"]),
                container=item.get("container", ""),
                under=tuple(item.get("under", ())),
                companion=item.get("with"),
                alternative=item.get("or"),
                module=item.get("module"),
            )
            for item in data["files"]
        ),
        directories={
            kind: tuple(data[f"{kind}_directories"])
            for kind in ("library", "walked", "program", "data", "xorg", "firmware")
        }
        | {"library_sub": tuple(data["library_subdirectories"])},
        image_directories={
            kind: tuple(data[f"image_{kind}_directories"]) for kind in ("library", "xorg", "driver")
        },
        cuda_versions=data["cuda_versions"],
    )


def _transport(mode: str, item: dict[str, Any]) -> Transport:
    return Transport(
        mode=mode,
        class_=item["class"],
        meaning=item["meaning"],
        nodes=tuple(
            TransportNode(
                name=node["name"],
                driver=node.get("driver"),
                minor=node.get("minor"),
                sysfs_class=node.get("class"),
            )
            for node in item["nodes"]
        ),
        files=tuple(item.get("files", ())),
    )


def pci_device_names() -> dict[int, str]:
    """Return the names of NVIDIA's PCI devices in the PCI ID Repository, by their device ids."""
    devices = json.loads(cdi_specs.read_text("pci_devices.json"))["devices"]
    return {int(number, 16): name for number, name in devices.items()}
