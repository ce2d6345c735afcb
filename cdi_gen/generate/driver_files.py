# SPDX-License-Identifier: Apache-2.0
"""The driver's files in the container: mounts, and the links that programs expect beside them.

With a hook, every file goes where it lies in the driver root, the hook makes the links and enters
the directories into the loader's cache. Without one, a library is mounted under each of its names
in directories that the loaders of all common images search by themselves.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cdi_gen.catalogue import Catalogue
from cdi_gen.cdi.model import Mount
from cdi_gen.errors import CdiGenError
from cdi_gen.generate import image_layouts
from cdi_gen.generate.selection import Selection, stem
from cdi_gen.inventory import DriverFile, Inventory, Library
from cdi_gen.paths import ContainerPath, base_name, beneath, join, parent

READ_ONLY = ("ro", "nosuid", "nodev", "rbind", "rprivate")
DATA = ("ro", "nosuid", "nodev", "noexec", "rbind", "rprivate")
SOCKET = ("nosuid", "nodev", "noexec", "rbind", "rprivate")
"""Not read-only: a client could not connect (nvidia-container-toolkit 1.18.2)."""

PROGRAM_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
"""Directories in the PATH of every image."""

Link = tuple[str, ContainerPath]
"""(text of the link, where the link is)."""


def in_container(inventory: Inventory, path: str) -> ContainerPath:
    """A path of the driver root as the container sees it: without the root.

    What lies in the root itself goes where loaders look: a root may be one directory of libraries.

    Raises:
        CdiGenError: the path lies outside of the driver root (an inventory edited by hand).
    """
    inside = beneath(path, inventory.driver_root)
    if inside is None or not inside.startswith("/"):
        raise CdiGenError(
            f"the inventory lists {path}, which is outside of its driver root "
            f"{inventory.driver_root}",
            code="CDG-I101",
        )
    if inside.count("/") == 1:
        return ContainerPath(join("/usr/lib64", inside))
    return ContainerPath(inside)


def library_place(inventory: Inventory, library: Library) -> ContainerPath:
    """Where a library goes in a container that has a hook.

    A 32-bit one of Red Hat's /usr/lib goes to /usr/lib32: in an image of Arch, where /usr/lib64 is
    a link to /usr/lib, it and the 64-bit one would be mounted over each other (distrobox#2126).
    """
    inside = in_container(inventory, library.path)
    if library.bits == 32 and parent(inside) in image_layouts.RED_HATS_32_BIT:
        return ContainerPath(join(image_layouts.LOADER_DIRECTORIES_32_BIT[0], base_name(inside)))
    return inside


def bind(host_path: str, container_path: str, options: tuple[str, ...]) -> Mount:
    """A bind mount that says so in its type too.

    ``rbind`` among the options is enough for runc. crun compares the type of each mount when it
    joins another container's user namespace, a pod's for instance, and crashes where there is
    none (crun#1948).
    """
    return Mount(host_path=host_path, container_path=container_path, options=options, type="bind")


def mounts(inventory: Inventory, selection: Selection) -> list[Mount]:
    """Mounts of a spec with a hook."""
    return [
        bind(library.path, library_place(inventory, library), READ_ONLY)
        for library in selection.libraries
    ]


def file_mounts(selection: Selection, catalogue: Catalogue, architecture: str) -> list[Mount]:
    """Mounts of everything that is not a shared library."""
    entries = {entry.name: entry for entry in catalogue.files}
    found = []
    for file in selection.files:
        entry = entries.get(file.entry)
        kind = entry.kind if entry else "data"
        options = {"socket": SOCKET, "data": DATA, "firmware": DATA}.get(kind, READ_ONLY)
        base = entry.container if entry else ""
        found.append(bind(file.path, _file_place(file, kind, base, architecture), options))
    return found


def _file_place(file: DriverFile, kind: str, base: str, architecture: str) -> ContainerPath:
    if kind == "program" and parent(file.seen_at) not in PROGRAM_DIRECTORIES:
        return ContainerPath(join("/usr/bin", base_name(file.seen_at)))
    if kind == "data" and base:
        return ContainerPath(join(base, file.entry.format(architecture=architecture)))
    return ContainerPath(file.seen_at)


def folders(inventory: Inventory) -> list[str]:
    """Directories for the loader's cache: all that hold a library, 64-bit ones first."""
    ordered = sorted(inventory.libraries, key=lambda each: -each.bits)
    return list(dict.fromkeys(parent(library_place(inventory, each)) for each in ordered))


def links(inventory: Inventory, catalogue: Catalogue) -> list[Link]:
    """Symbolic links for every library of the inventory, whether selected or not.

    The hook makes a link only where its target is in the container, so one list serves the
    default spec, a spec of few capabilities and the capability devices alike. So a link comes after
    the one that it leads to.
    """
    found: dict[ContainerPath, str] = {}
    for library in inventory.libraries:
        home = parent(library_place(inventory, library))
        file = base_name(library.path)
        if library.soname != file:
            found.setdefault(ContainerPath(join(home, library.soname)), file)
        for name in library.links:
            text = library.soname if name.endswith(".so") else file
            if name not in (text, library.soname):
                found.setdefault(ContainerPath(join(home, name)), text)
        for alias in _module_aliases(library, catalogue):
            text = posixpath.relpath(join(home, library.soname), parent(alias))
            found.setdefault(ContainerPath(alias), text)
        for text, link in _rule_links(library, home, catalogue):
            found.setdefault(link, text)
    others: dict[ContainerPath, str] = {}
    for text, link in _links_of_other_layouts(inventory, catalogue):
        here = ContainerPath(image_layouts.leads_to(link, text))
        if here != link and _way(here, found)[-1] != _way(link, found)[-1]:
            others.setdefault(link, text)
    made = found | others
    order = sorted(made, key=lambda link: (len(_way(link, made)), link))
    # Red Hat has 32-bit libraries in /usr/lib: where such a one was injected, its link is made at
    # the end, in the place of the other.
    own = [(found[link], link) for link in sorted(found.keys() & others.keys())]
    return [(made[link], link) for link in order] + own


def _links_of_other_layouts(inventory: Inventory, catalogue: Catalogue) -> Iterator[Link]:
    """From where the image's linkers and programs look to where the host has the file."""
    architecture = inventory.architecture
    for library in inventory.libraries:
        # To the file and to no link: where the image has two of these directories in one, as Arch
        # has, a link to the SONAME elsewhere would lead to itself.
        target = library_place(inventory, library)
        for place in image_layouts.modules(library, catalogue, architecture):
            yield target, place
        if library.bits == 32:
            continue
        everywhere = image_layouts.library_directories(catalogue, architecture)
        for directory in dict.fromkeys((parent(target), *everywhere)):
            if stem(library) in catalogue.plain:
                # With the SONAME beside it: ldconfig takes a lone libcuda.so for libcuda.so.1.
                yield target, ContainerPath(join(directory, library.soname))
                yield library.soname, ContainerPath(join(directory, f"{stem(library)}.so"))
            if directory != parent(target):
                # Names that are no SONAME, and so in no loader's cache (libGLX_indirect.so.0).
                for rule in catalogue.links:
                    if rule.library == stem(library) and "/" not in rule.link:
                        yield target, ContainerPath(join(directory, rule.link))
    for file in inventory.files:
        for place in image_layouts.xorg_modules(file, catalogue, architecture):
            yield file.seen_at, place


def _way(place: ContainerPath, links: dict[ContainerPath, str]) -> list[ContainerPath]:
    """A path, and where each of the links leads that are passed on the way from there to a file."""
    passed = [place]
    while place in links and len(passed) <= len(links):  # an edited inventory may have a circle
        place = ContainerPath(image_layouts.leads_to(place, links[place]))
        passed.append(place)
    return passed


def _module_aliases(library: Library, catalogue: Catalogue) -> Iterator[str]:
    """Other names in directories from which modules are loaded by path (vdpau/)."""
    for alias in library.aliases:
        if base_name(parent(alias)) in catalogue.directories["library_sub"]:
            yield alias


def _rule_links(library: Library, home: str, catalogue: Catalogue) -> Iterator[Link]:
    """The catalogue's links; a module's is below the public library directory."""
    for rule in catalogue.links:
        if rule.library != stem(library) or library.bits == 32:
            continue
        if "/" not in rule.link:
            text = rule.target.format(file=base_name(library.path))
            yield text, ContainerPath(join(home, rule.link))
            continue
        public = parent(library.aliases[0]) if library.aliases else home
        place = join(image_layouts.above_modules(public, catalogue), rule.link)
        target = join(home, library.soname)
        if place != target:
            yield posixpath.relpath(target, parent(place)), ContainerPath(place)


def mounts_without_hook(
    inventory: Inventory,
    selection: Selection,
    catalogue: Catalogue,
    directories: tuple[str, ...] | None,
) -> list[Mount]:
    """Libraries under the names programs open, in directories that loaders search by themselves."""
    found: dict[str, Mount] = {}
    for library in selection.libraries:
        for place in _places_without_hook(library, inventory, catalogue, directories):
            found.setdefault(place, bind(library.path, place, READ_ONLY))
    for file in selection.files:
        for place in image_layouts.xorg_modules(file, catalogue, inventory.architecture):
            found.setdefault(place, bind(file.path, place, READ_ONLY))
    return list(found.values())


def _places_without_hook(
    library: Library,
    inventory: Inventory,
    catalogue: Catalogue,
    directories: tuple[str, ...] | None,
) -> Iterator[str]:
    """All that a library is mounted at; those for any image only where none were named."""
    home = parent(library_place(inventory, library))
    everywhere = directories or image_layouts.LOADER_DIRECTORIES
    names = _names_without_hook(library, catalogue)
    if library.bits == 32:
        everywhere = image_layouts.LOADER_DIRECTORIES_32_BIT
    for directory in everywhere:
        yield from (join(directory, name) for name in sorted(names))
    yield from image_layouts.modules(library, catalogue, inventory.architecture)
    if image_layouts.is_named_by_path(library, home, catalogue):
        yield join(home, library.soname)
    if library.bits != 32 and directories is None and stem(library) in catalogue.in_images:
        for directory in image_layouts.driver_directories(catalogue, inventory.architecture):
            yield join(directory, library.soname)


def _names_without_hook(library: Library, catalogue: Catalogue) -> set[str]:
    """The names by which programs open a library; each is a mount, and each mount costs 0.15 ms.

    That is the SONAME, and for some the plain name. Other links on a host are its packager's; and
    nobody opens a library by the driver's version, unless that is the SONAME.
    """
    name = stem(library)
    links = {each.link for each in catalogue.links if each.library == name and "/" not in each.link}
    plain = {f"{name}.so"} if name in catalogue.plain else set()
    return {library.soname} | plain | links
