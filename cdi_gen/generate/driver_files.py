# SPDX-License-Identifier: Apache-2.0
"""Builds the mounts of the driver's files, and the links that programs expect beside the files.

With a hook, every file has the same path as in the driver root. The hook creates the links and adds
the directories to the loader's cache. Without a hook, each library is mounted under each of its
names in directories that the loaders of all common images search by default.
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
"""Mount options of sockets. Not read-only: a client could not connect (nvidia-container-toolkit
1.18.2)."""

PROGRAM_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
"""Directories that are in the PATH of every image."""

Link = tuple[str, ContainerPath]
"""(text of the symbolic link, path of the link)."""


def path_in_container(inventory: Inventory, path: str) -> ContainerPath:
    """Return the container's path of a driver file: the path without the driver root.

    A file directly in the root gets a directory that loaders search: the driver root may be a
    single directory of libraries.

    Raises:
        CdiGenError: the path is outside the driver root (in an inventory that was edited by hand).
    """
    container_path = beneath(path, inventory.driver_root)
    if container_path is None or not container_path.startswith("/"):
        raise CdiGenError(
            f"the inventory lists {path}, which is outside its driver root {inventory.driver_root}",
            code="CDG-I101",
        )
    if container_path.count("/") == 1:
        return ContainerPath(join("/usr/lib64", container_path))
    return ContainerPath(container_path)


def library_path(inventory: Inventory, library: Library) -> ContainerPath:
    """Return the container's path of a library in a spec with hooks.

    A 32-bit library of Red Hat's /usr/lib goes to /usr/lib32. In an image of Arch, /usr/lib64 is a
    link to /usr/lib, and the 32-bit library would be mounted over the 64-bit one
    (distrobox#2126).

    Raises:
        CdiGenError: as `path_in_container`.
    """
    path = path_in_container(inventory, library.path)
    if library.bits == 32 and parent(path) in image_layouts.RED_HAT_32_BIT_DIRECTORIES:
        return ContainerPath(join(image_layouts.LOADER_DIRECTORIES_32_BIT[0], base_name(path)))
    return path


def bind(host_path: str, container_path: str, options: tuple[str, ...]) -> Mount:
    """Return a bind mount with the type ``bind``.

    For runc the option ``rbind`` is enough. crun compares the type of each mount when it joins the
    user namespace of another container, for example of a pod, and crashes on a mount without a
    type (crun#1948).
    """
    return Mount(host_path=host_path, container_path=container_path, options=options, type="bind")


def mounts(inventory: Inventory, selection: Selection) -> list[Mount]:
    """Return the mounts of libraries for a spec with hooks."""
    return [
        bind(library.path, library_path(inventory, library), READ_ONLY)
        for library in selection.libraries
    ]


def file_mounts(selection: Selection, catalogue: Catalogue, architecture: str) -> list[Mount]:
    """Return the mounts of all selected files that are not shared libraries."""
    return [
        bind(file.path, file_path(file, catalogue, architecture), file_options(file, catalogue))
        for file in selection.files
    ]


def file_options(file: DriverFile, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the mount options of a file that is not a shared library."""
    kind = _kind_and_base(file, catalogue)[0]
    return {"socket": SOCKET, "data": DATA, "firmware": DATA}.get(kind, READ_ONLY)


def file_path(file: DriverFile, catalogue: Catalogue, architecture: str) -> ContainerPath:
    """Return the container's path of a file that is not a shared library."""
    kind, base = _kind_and_base(file, catalogue)
    if kind == "program" and parent(file.seen_at) not in PROGRAM_DIRECTORIES:
        return ContainerPath(join("/usr/bin", base_name(file.seen_at)))
    if kind == "data" and base:
        return ContainerPath(join(base, file.entry.format(architecture=architecture)))
    return ContainerPath(file.seen_at)


def _kind_and_base(file: DriverFile, catalogue: Catalogue) -> tuple[str, str]:
    """Return the kind of a file, and the container's directory of its entry; else ``data``."""
    for entry in catalogue.files:
        if entry.name == file.entry:
            return entry.kind, entry.container
    return "data", ""


def folders(inventory: Inventory) -> list[str]:
    """Return the library directories for the loader's cache, those of 64-bit libraries first."""
    libraries = sorted(inventory.libraries, key=lambda library: -library.bits)
    return list(dict.fromkeys(parent(library_path(inventory, library)) for library in libraries))


def links(inventory: Inventory, catalogue: Catalogue) -> list[Link]:
    """Return the symbolic links of every library of the inventory, selected or not.

    The hook creates a link only if its target is in the container. So one list fits the default
    spec, a spec of few capabilities and the capability devices, and a link comes after the link
    that it points to.
    """
    host_links: dict[ContainerPath, str] = {}
    for library in inventory.libraries:
        directory = parent(library_path(inventory, library))
        file_name = base_name(library.path)
        if library.soname != file_name:
            host_links.setdefault(ContainerPath(join(directory, library.soname)), file_name)
        for name in library.links:
            text = library.soname if name.endswith(".so") else file_name
            if name not in (text, library.soname):
                host_links.setdefault(ContainerPath(join(directory, name)), text)
        for alias in _module_aliases(library, catalogue):
            text = posixpath.relpath(join(directory, library.soname), parent(alias))
            host_links.setdefault(ContainerPath(alias), text)
        for text, link in _rule_links(library, directory, catalogue):
            host_links.setdefault(link, text)
    image_links: dict[ContainerPath, str] = {}
    for text, link in _links_of_other_layouts(inventory, catalogue):
        target = ContainerPath(image_layouts.link_target(link, text))
        if target != link and _chain(target, host_links)[-1] != _chain(link, host_links)[-1]:
            image_links.setdefault(link, text)
    all_links = host_links | image_links
    order = sorted(all_links, key=lambda link: (len(_chain(link, all_links)), link))
    # Red Hat has 32-bit libraries in /usr/lib. If a 32-bit library is in the container, the host's
    # link replaces the image's link of the same path; so it comes last.
    replacements = sorted(host_links.keys() & image_links.keys())
    return [(all_links[link], link) for link in order] + [
        (host_links[link], link) for link in replacements
    ]


def _links_of_other_layouts(inventory: Inventory, catalogue: Catalogue) -> Iterator[Link]:
    """Yield links from paths that programs of images open to the paths of the host's layout."""
    architecture = inventory.architecture
    for library in inventory.libraries:
        # The target is the file and not a link: in an image of Arch two of these directories are
        # the same, and a link to the SONAME in the other directory would point to itself.
        target = library_path(inventory, library)
        for path in image_layouts.modules(library, catalogue, architecture):
            yield target, path
        if library.bits == 32:
            continue
        image_directories = image_layouts.library_directories(catalogue, architecture)
        for directory in dict.fromkeys((parent(target), *image_directories)):
            if stem(library) in catalogue.plain:
                # Also the SONAME: without it ldconfig enters libcuda.so as libcuda.so.1.
                yield target, ContainerPath(join(directory, library.soname))
                yield library.soname, ContainerPath(join(directory, f"{stem(library)}.so"))
            if directory != parent(target):
                # These names are not SONAMEs, so no loader's cache has them (libGLX_indirect.so.0).
                for rule in catalogue.links:
                    if rule.library == stem(library) and "/" not in rule.link:
                        yield target, ContainerPath(join(directory, rule.link))
    for file in inventory.files:
        for path in image_layouts.xorg_modules(file, catalogue, architecture):
            yield file.seen_at, path


def _chain(path: ContainerPath, links: dict[ContainerPath, str]) -> list[ContainerPath]:
    """Return the path and the target of each link that is followed from the path to a file."""
    chain = [path]
    while path in links and len(chain) <= len(links):  # an edited inventory may have a cycle
        path = ContainerPath(image_layouts.link_target(path, links[path]))
        chain.append(path)
    return chain


def _module_aliases(library: Library, catalogue: Catalogue) -> Iterator[str]:
    """Yield the aliases in directories whose modules programs open by path (vdpau/)."""
    for alias in library.aliases:
        if base_name(parent(alias)) in catalogue.directories["library_sub"]:
            yield alias


def _rule_links(library: Library, directory: str, catalogue: Catalogue) -> Iterator[Link]:
    """Yield the catalogue's links of a library; ``directory`` is the library's in the container."""
    for rule in catalogue.links:
        if rule.library != stem(library) or library.bits == 32:
            continue
        if "/" not in rule.link:
            text = rule.target.format(file=base_name(library.path))
            yield text, ContainerPath(join(directory, rule.link))
            continue
        # The link of a module is below the directory of the public names.
        public_directory = parent(library.aliases[0]) if library.aliases else directory
        link = join(image_layouts.library_directory(public_directory, catalogue), rule.link)
        target = join(directory, library.soname)
        if link != target:
            yield posixpath.relpath(target, parent(link)), ContainerPath(link)


def mounts_without_hook(
    inventory: Inventory,
    selection: Selection,
    catalogue: Catalogue,
    directories: tuple[str, ...] | None,
) -> list[Mount]:
    """Return the mounts of libraries and X.Org modules for a spec without hooks."""
    by_container_path: dict[str, Mount] = {}
    for library in selection.libraries:
        for path in _paths_without_hook(library, inventory, catalogue, directories):
            by_container_path.setdefault(path, bind(library.path, path, READ_ONLY))
    for file in selection.files:
        for path in image_layouts.xorg_modules(file, catalogue, inventory.architecture):
            by_container_path.setdefault(path, bind(file.path, path, READ_ONLY))
    return list(by_container_path.values())


def _paths_without_hook(
    library: Library,
    inventory: Inventory,
    catalogue: Catalogue,
    directories: tuple[str, ...] | None,
) -> Iterator[str]:
    """Yield every container path of a library.

    ``directories`` are the directories that the user chose. Without a choice, the library has paths
    for all common images.
    """
    home = parent(library_path(inventory, library))
    loader_directories = directories or image_layouts.LOADER_DIRECTORIES
    names = _names_without_hook(library, catalogue)
    if library.bits == 32:
        loader_directories = image_layouts.LOADER_DIRECTORIES_32_BIT
    for directory in loader_directories:
        yield from (join(directory, name) for name in sorted(names))
    yield from image_layouts.modules(library, catalogue, inventory.architecture)
    if image_layouts.is_named_by_path(library, home, catalogue):
        yield join(home, library.soname)
    if library.bits != 32 and directories is None and stem(library) in catalogue.in_images:
        for directory in image_layouts.driver_directories(catalogue, inventory.architecture):
            yield join(directory, library.soname)


def _names_without_hook(library: Library, catalogue: Catalogue) -> set[str]:
    """Return the names by which programs open a library. Each name is a mount and costs 0.15 ms.

    The names are the SONAME, the names of the catalogue's links and, for libraries that the
    catalogue marks as plain, the name without a version. The host's other links come from its
    package. No program opens the name with the driver version, unless it is the SONAME.
    """
    name = stem(library)
    links = {rule.link for rule in catalogue.links if rule.library == name and "/" not in rule.link}
    plain = {f"{name}.so"} if name in catalogue.plain else set()
    return {library.soname} | plain | links
