# SPDX-License-Identifier: Apache-2.0
"""Selects the driver's files that serve the requested driver capabilities."""

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
    """Return what serves the options' capabilities, with the libraries that these libraries need.

    A library that the catalogue does not list is selected if all default capabilities are wanted.
    So containers get a new driver's new library before the catalogue lists it.

    Raises:
        UsageError: a requested capability does not exist.
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
    """Return why the spec leaves out a control node that the host lacks; empty if the spec has it.

    An engine that runs as root creates the node from its numbers. Any other engine bind-mounts the
    host's node, and starts no container if the node is missing. So the spec has a missing node only
    for capabilities that need the node: compute, and other capabilities that are requested by name.
    While the host boots, the spec has the node, because the node may exist when a container starts
    (nvidia-container-toolkit issue 1982).
    """
    if not inventory.engines_make_nodes:
        return "it does not exist, and in a user namespace no engine can create it"
    if options.rootless:
        return "it does not exist, and rootless engines cannot create it"
    if inventory.booting:
        return ""
    by_name = catalogue.select(name for name in options.capabilities if name != ALL)
    if serves(node_capabilities(node, catalogue), by_name | {COMPUTE}):
        return ""
    return "it does not exist, and none of its capabilities is requested by name"


def serves(capabilities: frozenset[str], wanted: frozenset[str]) -> bool:
    """Whether a file or node that serves ``capabilities`` serves one that is wanted."""
    return EVERY in capabilities or not capabilities.isdisjoint(wanted)


def stem(library: Library) -> str:
    """Return the name by which the catalogue lists it: ``libcuda`` of ``libcuda.so.550.163.01``."""
    return base_name(library.path).partition(".so")[0]


def library_serves(library: Library, catalogue: Catalogue, wanted: frozenset[str]) -> bool:
    """Whether the library itself serves a wanted capability, even if no other library needs it."""
    if library.bits == 32 and COMPAT32 not in wanted:
        return False
    capabilities = catalogue.libraries.get(stem(library))
    if capabilities is None:
        return wanted >= {item.name for item in catalogue.capabilities if item.default}
    if wanted == {COMPAT32}:
        return library.bits == 32  # the engine combines it with devices of other capabilities
    return serves(capabilities, wanted)


def file_capabilities(file: DriverFile, catalogue: Catalogue) -> frozenset[str]:
    """Return the capabilities of a file; ``EVERY`` if the catalogue does not list the file."""
    for entry in catalogue.files:
        if entry.name == file.entry:
            return entry.capabilities
    return frozenset({EVERY})


def node_capabilities(node: CharDevice, catalogue: Catalogue) -> frozenset[str]:
    """Return the capabilities of a control node; ``EVERY`` if the catalogue does not list it."""
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
    pending = [library for library in libraries if library_serves(library, catalogue, wanted)]
    selected = set(pending)
    while pending:
        library = pending.pop()
        for name in library.needed:
            needed = by_name.get((library.bits, name))
            if needed is not None and needed not in selected:
                selected.add(needed)
                pending.append(needed)
    return tuple(library for library in libraries if library in selected)
