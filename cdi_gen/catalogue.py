# SPDX-License-Identifier: Apache-2.0
"""The catalogue: which file of the NVIDIA driver serves which driver capability.

The knowledge itself is data, ``specs/cdi_specs/driver_files.json``; this module gives it types.
``host`` asks it what to look for, ``generate`` asks it whom a file serves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import cdi_specs
from cdi_gen.errors import UsageError

EVERY = "*"
"""In place of a capability: the file serves whatever is asked for."""


class Capability(NamedTuple):
    """A driver capability, in the words of ``NVIDIA_DRIVER_CAPABILITIES``."""

    name: str
    default: bool
    """It is part of a spec for which no capability was asked."""
    requires: tuple[str, ...]
    meaning: str


class ControlNode(NamedTuple):
    """A device node that belongs to the driver and not to one GPU."""

    name: str
    drivers: tuple[str, ...]
    """Names in ``/proc/devices`` that may carry its major number; the first that is there does."""
    minor: int
    capabilities: frozenset[str]
    module: str | None
    """The node is of use only while this kernel module is loaded."""


class TransportNode(NamedTuple):
    """Device nodes of a transport: one, or all that differ in a number."""

    name: str
    """Below /dev; a ``*`` at its end stands for a decimal number."""
    driver: str | None
    """Name in ``/proc/devices`` of those who have the major number."""
    minor: int | None
    """None: the number in the name."""
    sysfs_class: str | None
    """Where there is no one driver: the directory in /sys/class that tells both numbers."""

    def number(self, name: str) -> int | None:
        """The number in a name that is one of these; 0 where they have none; None: it is not."""
        if not self.name.endswith("*"):
            return 0 if name == self.name else None
        start = self.name[:-1]
        digits = name[len(start) :]
        if not name.startswith(start) or not digits.isascii() or not digits.isdecimal():
            return None
        # As the kernel writes it, and no more than MINORBITS can hold.
        return int(digits) if len(digits) <= 7 and str(int(digits)) == digits else None


class Transport(NamedTuple):
    """A way for data to and from GPUs that has device nodes of its own."""

    mode: str
    """nvidia-ctk's word for it: ``gds``, ``mofed``, ``gdrcopy``, ``nvswitch``, ``imex``."""
    class_: str
    """Class of its CDI kind."""
    meaning: str
    nodes: tuple[TransportNode, ...]
    files: tuple[str, ...]
    """Files and directories of the host that programs read beside the nodes."""


class LinkRule(NamedTuple):
    """A symbolic link that programs expect beside a library."""

    library: str
    target: str
    """``{file}`` stands for the library's file name."""
    link: str
    """Beside the library; or, with a directory in it, below a library directory: a module that
    another library opens by its path."""


class FileEntry(NamedTuple):
    """A file other than a shared library."""

    name: str
    kind: str
    """``program``, ``data``, ``xorg``, ``firmware`` or ``socket``."""
    capabilities: frozenset[str]
    container: str
    """Directory in the container under which ``name`` goes, for data files."""
    under: tuple[str, ...]
    """Directories of the host, for sockets."""
    companion: str | None
    """The library without which the file is of no use, and which is of little use without it."""
    alternative: str | None
    """Another entry that does as well."""
    module: str | None
    """Where the program that opens it by its path looks, below a library directory."""


class Catalogue(NamedTuple):
    """Everything known of the driver's files."""

    capabilities: tuple[Capability, ...]
    control_nodes: tuple[ControlNode, ...]
    transports: tuple[Transport, ...]
    libraries: dict[str, frozenset[str]]
    """Capabilities by a library's name up to ``.so``."""
    unversioned: frozenset[str]
    """Libraries whose file name does not end in the driver's version."""
    plain: frozenset[str]
    """Libraries that programs also open by the name without any number, ``libcuda.so``."""
    in_images: frozenset[str]
    """Libraries of which images may bring one of their own: forward compatibility, stubs."""
    links: tuple[LinkRule, ...]
    files: tuple[FileEntry, ...]
    directories: dict[str, tuple[str, ...]]
    """Where to look, relative to the driver root, by kind; ``{…}`` is filled in by ``host``."""
    image_directories: dict[str, tuple[str, ...]]
    """Where programs of images look, of whatever distribution: ``library`` has the libraries of an
    image, and below it, as below ``xorg``, modules that are opened by their path; ``driver`` comes
    before the places where images have libraries of ``in_images``. ``{triplet}`` is Debian's name
    of the architecture."""
    cuda_versions: dict[str, str]
    """The newest CUDA version that a branch of the driver (``580``) runs."""

    def select(self, names: Iterable[str]) -> frozenset[str]:
        """The capabilities asked for, with those that they require.

        ``all`` stands for every default capability.

        Raises:
            UsageError: a name is no capability.
        """
        known = {capability.name: capability for capability in self.capabilities}
        selected: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name == "all":
                pending += [each.name for each in self.capabilities if each.default]
            elif name not in known:
                raise UsageError(
                    f"unknown driver capability: {name}",
                    hint=f"known: all, {', '.join(known)}",
                    code="CDG-U003",
                    subject=name,
                )
            elif name not in selected:
                selected.add(name)
                pending += known[name].requires
        return frozenset(selected)


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The catalogue that ships with this version."""
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
