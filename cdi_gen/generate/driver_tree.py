# SPDX-License-Identifier: Apache-2.0
"""Lays out the driver tree: one directory of the host with everything that containers get.

Specs of the form ``tree`` mount this directory, so they name no version of the driver and stay true
when the driver is updated. ``cdi_gen.tree`` makes the directory; this module says what is in it::

    lib64/           64-bit libraries: the files, and every name by which programs open them
    lib64/gbm/ …     modules that other libraries open by their path
    loader/          a link for each name in lib64, by its path in the container: mounted where
                     loaders look, this directory is one mount, and lib64 a mount for each file
    lib/             32-bit libraries
    bin/             programs
    data/PATH        other files, at their paths in the container
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.catalogue import Catalogue, catalogue
from cdi_gen.generate import driver_files, requirements
from cdi_gen.generate.options import DEFAULTS, Options
from cdi_gen.generate.selection import select, stem
from cdi_gen.inventory import DriverFile, Inventory, Library
from cdi_gen.paths import ContainerPath, HostPath, base_name, parent

ROOT = "/run/cdi-gen/driver"
"""The directory of all trees, on the host."""

CURRENT = f"{ROOT}/current"
"""The link to the tree that containers get; specs name no other path of the tree."""

DESCRIPTION = f"{CURRENT}/driver.json"
"""The file of the tree with the driver's versions, which the hook reads on the host."""

CONTAINER = "/usr/local/nvidia"
"""The directory of the tree in the container; NVIDIA's images name it in PATH and
LD_LIBRARY_PATH."""

LIBRARIES, LOADER, LIBRARIES_32_BIT, PROGRAMS, DATA = "lib64", "loader", "lib", "bin", "data"


class TreeFile(NamedTuple):
    """A file of the host in the tree."""

    path: str
    """The path in the tree, relative."""
    source: HostPath


class TreeLink(NamedTuple):
    """A symbolic link in the tree; it leads to a file of the tree, in the container."""

    path: str
    text: str


class DriverTree(NamedTuple):
    """The content of a driver tree; files and links are sorted by path, and no path is in both."""

    version: str
    """The driver's version."""
    cuda_version: str | None
    """The newest CUDA version of the driver; None if it is not known."""
    files: tuple[TreeFile, ...]
    links: tuple[TreeLink, ...]


def layout(inventory: Inventory, options: Options = DEFAULTS) -> DriverTree:
    """Return the tree of a host: the files that serve the options' capabilities.

    If two files have the same name, the tree has the first one of the inventory. Sockets are not in
    the tree: a daemon that is restarted replaces its socket.

    Raises:
        UsageError: a requested capability does not exist.
        CdiGenError: the inventory has no driver, or a file outside of its driver root.
    """
    driver_catalogue = catalogue()
    selection = select(inventory, driver_catalogue, options)
    files: dict[str, HostPath] = {}
    links: dict[str, str] = {}
    for library in selection.libraries:
        files.setdefault(f"{_directory(library)}/{base_name(library.path)}", library.path)
    for library in selection.libraries:
        for name, text in _library_links(library, driver_catalogue):
            links.setdefault(f"{_directory(library)}/{name}", text)
    for name in (*files, *links):
        directory, _, library_name = name.partition("/")
        if directory == LIBRARIES and "/" not in library_name:
            links[f"{LOADER}/{library_name}"] = f"{CONTAINER}/{name}"
    for file in selection.files:
        path = file_path(file, inventory, driver_catalogue)
        if path is not None:
            files.setdefault(path, file.path)
    driver = inventory.require_driver()
    return DriverTree(
        version=driver.version,
        cuda_version=requirements.cuda_version(inventory),
        files=tuple(TreeFile(path, files[path]) for path in sorted(files)),
        links=tuple(TreeLink(path, links[path]) for path in sorted(links.keys() - files.keys())),
    )


def file_path(file: DriverFile, inventory: Inventory, driver_catalogue: Catalogue) -> str | None:
    """Return the path in the tree of a file that is not a library; None for a socket."""
    entry = next((entry for entry in driver_catalogue.files if entry.name == file.entry), None)
    if entry is not None and entry.kind == "socket":
        return None
    if entry is not None and entry.module:
        return f"{LIBRARIES}/{entry.module}"
    container_path = driver_files.file_path(file, driver_catalogue, inventory.architecture)
    if entry is not None and entry.kind == "program":
        return f"{PROGRAMS}/{base_name(container_path)}"
    return f"{DATA}{container_path}"


def host_path(path: str) -> HostPath:
    """Return the path by which a spec names a file or directory of the tree."""
    return HostPath(f"{CURRENT}/{path}")


def _directory(library: Library) -> str:
    return LIBRARIES_32_BIT if library.bits == 32 else LIBRARIES


def _library_links(library: Library, driver_catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Yield (name in the library's directory, text) of each link to a library.

    The order decides which link a name gets: the host's own links come before the catalogue's.
    """
    file_name = base_name(library.path)
    yield library.soname, file_name
    module_directories = driver_catalogue.directories["library_sub"]
    aliases = (
        base_name(alias)
        for alias in library.aliases
        if base_name(parent(alias)) not in module_directories
    )
    for name in (*library.links, *aliases):
        if name != library.soname:
            yield name, library.soname if name.endswith(".so") else file_name
    if stem(library) in driver_catalogue.plain:
        yield f"{stem(library)}.so", library.soname
    for rule in driver_catalogue.links:
        if rule.library != stem(library):
            continue
        if "/" not in rule.link:
            yield rule.link, rule.target.format(file=file_name)
        elif library.bits != 32:
            yield rule.link, "../" * rule.link.count("/") + library.soname
            # libvdpau asks the loader for this name if its own directory does not have the module.
            yield f"{stem(library)}.so", library.soname


def is_versioned(path: str, inventory: Inventory) -> bool:
    """Whether a path changes with every version of the driver."""
    return inventory.require_driver().version in path


def unversioned_directory(path: str, inventory: Inventory) -> ContainerPath:
    """Return the lowest directory on a path whose own path does not have the driver's version."""
    directory = path
    while is_versioned(directory, inventory):
        directory = parent(directory)
    return ContainerPath(directory)
