# SPDX-License-Identifier: Apache-2.0
"""Builds the driver's part of a spec of the form ``tree``: mounts of the driver tree.

The tree is mounted at ``/usr/local/nvidia``. With a hook, its libraries are added to the loader's
cache. Without a hook, its directory of links is mounted where glibc looks before its default
directories. A mount of a directory of links costs a container start less than one of a file.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdi_gen.catalogue import Catalogue
from cdi_gen.cdi.model import Mount
from cdi_gen.errors import UsageError
from cdi_gen.generate import driver_files, driver_tree, image_layouts
from cdi_gen.generate.driver_files import READ_ONLY, Link, bind
from cdi_gen.generate.driver_tree import (
    CONTAINER,
    LIBRARIES,
    LIBRARIES_32_BIT,
    LIBRARY_DIRECTORY,
    LOADER,
    host_path,
)
from cdi_gen.generate.options import Options
from cdi_gen.generate.selection import COMPAT32, Selection, stem
from cdi_gen.inventory import DriverFile, Inventory
from cdi_gen.paths import ContainerPath, join

LOADER_DIRECTORIES = (
    "/usr/lib/glibc-hwcaps/x86-64-v2",
    "/usr/lib64/glibc-hwcaps/x86-64-v2",
    "/usr/lib/x86_64",
    "/usr/lib64/x86_64",
)
"""Directories that glibc searches before the default directories above them: the first two since
2.33, for all processors since 2009; the other two until 2.36 (elf/dl-hwcaps.c)."""

LINKER_DIRECTORIES = ("/usr/x86_64-linux-gnu/lib64", "/usr/x86_64-redhat-linux/lib64")
"""Directories in which ld looks by default (``ld --verbose``, SEARCH_DIR), and in which images have
no libraries: of Debian and Ubuntu, of Fedora and Red Hat. gold, lld and CMake do not look there."""

ARCHITECTURE = "x86_64"
"""The architecture whose glibc has such directories; on aarch64 it has none."""


def require(inventory: Inventory, options: Options, *, hooked: bool) -> None:
    """Reject options with which a spec cannot have the form ``tree``.

    Raises:
        UsageError: an option has no effect with the form, or a container would not find libraries.
    """
    hint = "use --form files"
    if options.library_directories is not None:
        raise UsageError(
            "--container-library-dir has no effect with --form tree", hint=hint, code="CDG-U002"
        )
    if hooked:
        return
    hint = f"install the hook with: sudo cdi-gen hook install; or {hint}"
    if inventory.architecture != ARCHITECTURE:
        raise UsageError(
            f"--form tree without a hook is not supported on {inventory.architecture}, where glibc "
            "has no directory that it searches first",
            hint=hint,
            code="CDG-U012",
        )
    if COMPAT32 in options.capabilities:
        raise UsageError(
            f"--form tree without a hook does not support {COMPAT32}: 32-bit programs would not "
            "find the libraries",
            hint=hint,
            code="CDG-U012",
        )


def mounts(
    inventory: Inventory, selection: Selection, catalogue: Catalogue, *, hooked: bool
) -> list[Mount]:
    """Return the mounts of the selected libraries and files."""
    tree_mounts = []
    if selection.libraries or selection.files:
        tree_mounts.append(bind(driver_tree.CURRENT, CONTAINER, READ_ONLY))
    if not hooked:
        for path, target in _library_paths(inventory, selection, catalogue):
            tree_mounts.append(bind(host_path(path), target, READ_ONLY))
    for file in selection.files:
        tree_mounts += _file_mounts(file, inventory, catalogue, hooked=hooked)
    return tree_mounts


def _library_paths(
    inventory: Inventory, selection: Selection, catalogue: Catalogue
) -> Iterator[tuple[str, ContainerPath]]:
    """Yield (path in the tree, path in the container) of libraries for a spec without hooks."""
    libraries = [library for library in selection.libraries if library.bits == 64]
    if libraries:
        for directory in (*LOADER_DIRECTORIES, *LINKER_DIRECTORIES):
            yield LOADER, ContainerPath(directory)
    for library in libraries:
        for directory, name in driver_tree.library_files(library, inventory, catalogue):
            yield f"{LIBRARIES}/{name}", ContainerPath(join(directory, name))


def _file_mounts(
    file: DriverFile, inventory: Inventory, catalogue: Catalogue, *, hooked: bool
) -> Iterator[Mount]:
    """Yield the mounts of a file that is not a library; with a hook, the X server's are links."""
    options = driver_files.file_options(file, catalogue)
    container_path = driver_files.file_path(file, catalogue, inventory.architecture)
    path = driver_tree.file_path(file, inventory, catalogue)
    if path is None:
        yield bind(file.path, container_path, options)
    elif path.startswith(f"{LIBRARIES}/"):
        if not hooked:
            for module in image_layouts.xorg_modules(file, catalogue, inventory.architecture):
                yield bind(host_path(path), module, options)
    elif directory := driver_tree.own_directory(container_path):
        yield bind(host_path(f"{driver_tree.DATA}{directory}"), directory, options)
    elif hooked or file.entry not in driver_tree.IN_TREE_ALONE:
        yield bind(host_path(path), container_path, options)


def links(inventory: Inventory, catalogue: Catalogue) -> list[Link]:
    """Return the links that the hook creates, from paths that programs of images open to the tree.

    The hook creates a link only if its target is in the container.
    """
    image_links: dict[ContainerPath, str] = {}
    for library in inventory.libraries:
        if library.bits == 32:
            continue
        names = []
        if stem(library) in catalogue.plain:
            names = [library.soname, f"{stem(library)}.so"]
        names += [rule.link for rule in catalogue.links if rule.library == stem(library)]
        for name in names:
            for directory in image_layouts.library_directories(catalogue, inventory.architecture):
                link = ContainerPath(join(directory, name))
                image_links.setdefault(link, join(LIBRARY_DIRECTORY, name))
    for file in inventory.files:
        for link in image_layouts.xorg_modules(file, catalogue, inventory.architecture):
            path = driver_tree.file_path(file, inventory, catalogue)
            image_links.setdefault(link, f"{CONTAINER}/{path}")
    return sorted(((text, link) for link, text in image_links.items()), key=lambda pair: pair[1])


def folders(inventory: Inventory) -> list[str]:
    """Return the directories for the loader's cache, that of 64-bit libraries first."""
    sizes = {library.bits for library in inventory.libraries}
    directories = {64: LIBRARY_DIRECTORY, 32: f"{CONTAINER}/{LIBRARIES_32_BIT}"}
    return [directory for bits, directory in directories.items() if bits in sizes]
