# SPDX-License-Identifier: Apache-2.0
"""Which of the driver's files serve the driver capabilities that were asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cdi_gen.catalogue import EVERY, Catalogue
from cdi_gen.generate.options import ALL, Options
from cdi_gen.inventory import CharDevice, DriverFile, Inventory, Library
from cdi_gen.paths import base_name

COMPAT32 = "compat32"

COMPUTE = "compute"


class Selection(NamedTuple):
    """The part of an inventory's driver that goes into a container."""

    libraries: tuple[Library, ...]
    files: tuple[DriverFile, ...]
    control_nodes: tuple[CharDevice, ...]


def select(inventory: Inventory, catalogue: Catalogue, options: Options) -> Selection:
    """What serves the options' capabilities, closed over the libraries that those libraries need.

    A library that the catalogue does not list serves the default capabilities together, so that a
    new driver's new library reaches containers before anybody has listed it.

    Raises:
        UsageError: a name is no capability.
    """
    wanted = catalogue.select(options.capabilities)
    return Selection(
        libraries=_libraries(inventory.libraries, catalogue, wanted),
        files=tuple(
            file for file in inventory.files if serves(file_capabilities(file, catalogue), wanted)
        ),
        control_nodes=tuple(
            node
            for node in inventory.control_nodes
            if serves(node_capabilities(node, catalogue), wanted)
            and (node.present or not why_absent(node, inventory, catalogue, options))
        ),
    )


def why_absent(
    node: CharDevice, inventory: Inventory, catalogue: Catalogue, options: Options
) -> str:
    """Why a control node that the host does not have is left out; empty where it is not.

    An engine of root makes it from its numbers; one that cannot binds the host's, and starts no
    container. So it is for those alone who can do nothing without it: for graphics, if graphics is
    asked for by name. Compute is what a GPU is asked for in any case. While the host boots, the
    node may be there by the time a container is (nvidia-container-toolkit issue 1982).
    """
    if not inventory.engines_make_nodes:
        return "it does not exist, and in a user namespace no engine can make it"
    if options.rootless:
        return "it does not exist, and rootless engines cannot make it"
    if inventory.booting:
        return ""
    by_name = catalogue.select(name for name in options.capabilities if name != ALL)
    if serves(node_capabilities(node, catalogue), by_name | {COMPUTE}):
        return ""
    return "it does not exist, and none of its capabilities is asked for by name"


def serves(capabilities: frozenset[str], wanted: frozenset[str]) -> bool:
    """Whether something that serves ``capabilities`` belongs to what is wanted."""
    return EVERY in capabilities or not capabilities.isdisjoint(wanted)


def stem(library: Library) -> str:
    """``libcuda`` of ``libcuda.so.550.163.01``: the name that the catalogue lists."""
    return base_name(library.path).partition(".so")[0]


def library_serves(library: Library, catalogue: Catalogue, wanted: frozenset[str]) -> bool:
    """Whether the library itself serves what is wanted, whoever else needs it."""
    if library.bits == 32 and COMPAT32 not in wanted:
        return False
    listed = catalogue.libraries.get(stem(library))
    if listed is None:
        return wanted >= {each.name for each in catalogue.capabilities if each.default}
    if wanted == {COMPAT32}:
        return library.bits == 32  # composed with other capabilities by the engine
    return serves(listed, wanted)


def file_capabilities(file: DriverFile, catalogue: Catalogue) -> frozenset[str]:
    """Capabilities of a catalogued file; of every one where the catalogue does not know it."""
    for entry in catalogue.files:
        if entry.name == file.entry:
            return entry.capabilities
    return frozenset({EVERY})


def node_capabilities(node: CharDevice, catalogue: Catalogue) -> frozenset[str]:
    """Capabilities of a control node."""
    for entry in catalogue.control_nodes:
        if f"/dev/{entry.name}" == node.path:
            return entry.capabilities
    return frozenset({EVERY})


def _libraries(
    libraries: Iterable[Library], catalogue: Catalogue, wanted: frozenset[str]
) -> tuple[Library, ...]:
    by_name = {
        (library.bits, name): library
        for library in libraries
        for name in (base_name(library.path), library.soname)
    }
    chosen = [each for each in libraries if library_serves(each, catalogue, wanted)]
    pending = list(chosen)
    seen = set(chosen)
    while pending:
        library = pending.pop()
        for name in library.needed:
            needed = by_name.get((library.bits, name))
            if needed is not None and needed not in seen:
                seen.add(needed)
                pending.append(needed)
    return tuple(each for each in libraries if each in seen)
