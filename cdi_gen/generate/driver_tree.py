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
from cdi_gen.generate import driver_files, image_layouts, requirements
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

LIBRARY_DIRECTORY = f"{CONTAINER}/lib64"

LIBRARIES, LOADER, LIBRARIES_32_BIT, PROGRAMS, DATA = "lib64", "loader", "lib", "bin", "data"


LINKED = frozenset({"libcuda", "libnvidia-ml"})
"""Libraries whose linker name is also in a directory in which every linker looks."""

IN_TREE_ALONE = frozenset({"nvidia-debugdump", "nvidia-persistenced", "nvidia-xconfig"})
"""Programs that a spec without a hook gives in ``/usr/local/nvidia/bin`` alone: each file that is
mounted costs a start of runc 0.1 ms, and containers rarely run these."""

OVER_IMAGES = frozenset({"libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"})
"""Of the libraries that images contain too, those that a spec without a hook mounts over the
image's. The others have 90 MB, and a file that is mounted is copied to memory."""

BY_LOADER = frozenset({"vdpau/libvdpau_nvidia.so.1"})
"""Modules that their library also finds by a name in the loader's directories."""

ARCH_DIRECTORY = "/usr/lib"
"""Modules are in this directory in images of Arch, where /usr/lib64 is a link to it, and in images
with musl, whose loader does not load them."""


class TreeFile(NamedTuple):
    """A file of the host in the tree."""

    path: str
    """The path in the tree, relative."""
    source: HostPath
    copied: bool
    """Whether the tree has a copy in memory, and not the file itself. Linux does not mount a file
    that was deleted, as a package manager does with each file that it replaces; a directory with
    such files it does. So a file that specs mount by its path is a copy."""


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

    The options must be those of the specs that mount the tree: a spec without a hook mounts more
    files by their paths.
    If two files have the same name, the tree has the first one of the inventory. Sockets are not in
    the tree: a daemon that is restarted replaces its socket.

    Raises:
        UsageError: a requested capability does not exist.
        CdiGenError: the inventory has no driver, or a file outside of its driver root.
    """
    driver_catalogue = catalogue()
    selection = select(inventory, driver_catalogue, options)
    hooked = options.hooks and inventory.hook is not None
    files: dict[str, HostPath] = {}
    links: dict[str, str] = {}
    copied: set[str] = set()
    for library in selection.libraries:
        path = f"{_directory(library)}/{base_name(library.path)}"
        files.setdefault(path, library.path)
        if not hooked and any(library_files(library, inventory, driver_catalogue)):
            copied.add(path)
    for library in selection.libraries:
        for name, text in _library_links(library, driver_catalogue):
            links.setdefault(f"{_directory(library)}/{name}", text)
    for name in (*files, *links):
        directory, _, library_name = name.partition("/")
        if directory == LIBRARIES and "/" not in library_name:
            links[f"{LOADER}/{library_name}"] = f"{CONTAINER}/{name}"
    for file in selection.files:
        file_in_tree = file_path(file, inventory, driver_catalogue)
        if file_in_tree is None:
            continue
        files.setdefault(file_in_tree, file.path)
        is_module = file_in_tree.startswith(LIBRARIES)
        in_tree_alone = is_module if hooked else file.entry in IN_TREE_ALONE
        if not own_directory(file_in_tree) and not in_tree_alone:
            copied.add(file_in_tree)
    driver = inventory.require_driver()
    return DriverTree(
        version=driver.version,
        cuda_version=requirements.cuda_version(inventory),
        files=tuple(TreeFile(path, files[path], path in copied) for path in sorted(files)),
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


def own_directory(path: str) -> ContainerPath | None:
    """Return the directory called ``nvidia`` that a path goes through; specs mount it as a whole.

    So the paths of firmware, which have the version, are in no spec.
    """
    above, name, _ = path.rpartition("/nvidia/")
    return ContainerPath(f"{above}/nvidia") if name else None


def library_files(
    library: Library, inventory: Inventory, driver_catalogue: Catalogue
) -> Iterator[tuple[str, str]]:
    """Yield (directory in the container, name) of a library that a spec without hooks mounts alone.

    Linkers and programs that open a path do not look in the directories of loaders. An image may
    have a library of its own in a directory that its cache lists.
    """
    if library.bits == 32:
        return
    if stem(library) in LINKED:
        yield "/usr/lib", f"{stem(library)}.so"
    if stem(library) == "libcuda":
        yield "/usr/lib", library.soname
    if stem(library) in OVER_IMAGES:
        for directory in image_layouts.driver_directories(driver_catalogue, inventory.architecture):
            if directory != LIBRARY_DIRECTORY:
                yield directory, library.soname
    for rule in driver_catalogue.links:
        if rule.library == stem(library) and "/" in rule.link and rule.link not in BY_LOADER:
            for directory in image_layouts.library_directories(
                driver_catalogue, inventory.architecture
            ):
                if directory != ARCH_DIRECTORY:
                    yield directory, rule.link
