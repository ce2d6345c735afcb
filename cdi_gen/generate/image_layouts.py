# SPDX-License-Identifier: Apache-2.0
"""Paths at which programs of images of all distributions look for the driver's files.

The layouts of host and image may differ: a Red Hat host runs Debian images. The loader finds a
library by its name in any directory of its cache. This module has the files that programs open by
their path.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cdi_gen.catalogue import Catalogue
from cdi_gen.generate.selection import stem
from cdi_gen.inventory import DriverFile, Library
from cdi_gen.paths import ContainerPath, base_name, beneath, join, parent

LOADER_DIRECTORIES = ("/usr/lib64", "/usr/lib")
"""The loader of each common image searches one of these two by default: glibc of Red Hat, SUSE and
Arch the first, glibc of Debian and musl the second."""

LOADER_DIRECTORIES_32_BIT = ("/usr/lib32", "/usr/lib/i386-linux-gnu")
"""The same for 32-bit programs: of Arch the first, of Debian the second."""

RED_HAT_32_BIT_DIRECTORIES = ("/usr/lib", "/lib")
"""Directories of 32-bit libraries on Red Hat and SUSE, of 64-bit libraries elsewhere."""


def driver_directories(catalogue: Catalogue, architecture: str) -> list[str]:
    """Return the directories in which a program looks before it finds the image's own libcuda."""
    return _directories(catalogue, "driver", architecture)


def library_directories(catalogue: Catalogue, architecture: str) -> list[str]:
    """Return the directories in which linkers, scripts and variables of images look for libraries.

    Examples: ``NUMBA_CUDA_DRIVER=/usr/lib/x86_64-linux-gnu/libcuda.so.1``; gcc, which finds the
    library of an older driver there before it searches ``/usr/lib``.
    """
    return _directories(catalogue, "library", architecture)


def modules(library: Library, catalogue: Catalogue, architecture: str) -> Iterator[ContainerPath]:
    """Yield every path by which a library of an image may open this library as a module."""
    if library.bits != 32:
        for rule in catalogue.links:
            if rule.library == stem(library) and "/" in rule.link:
                for directory in library_directories(catalogue, architecture):
                    yield ContainerPath(join(directory, rule.link))


def xorg_modules(
    file: DriverFile, catalogue: Catalogue, architecture: str
) -> Iterator[ContainerPath]:
    """Yield every path by which an image's X server may open this file."""
    for entry in catalogue.files:
        if entry.name == file.entry and entry.module:
            for directory in _directories(catalogue, "xorg", architecture):
                yield ContainerPath(join(directory, entry.module))


def is_named_by_path(library: Library, directory: str, catalogue: Catalogue) -> bool:
    """Whether an ICD or EGL file of the driver may name the library by its path, as on NixOS."""
    companions = {entry.companion for entry in catalogue.files if entry.kind == "data"}
    return library.bits != 32 and stem(library) in companions and beneath(directory, "/usr") is None


def library_directory(directory: str, catalogue: Catalogue) -> str:
    """Return the library directory: the parent of a directory of modules (vdpau/), or itself."""
    has_modules = base_name(directory) in catalogue.directories["library_sub"]
    return parent(directory) if has_modules else directory


def link_target(link: str, text: str) -> str:
    """Return the path that a symbolic link with this text points to."""
    return posixpath.normpath(posixpath.join(parent(link), text))


def _directories(catalogue: Catalogue, kind: str, architecture: str) -> list[str]:
    triplet = f"{architecture}-linux-gnu"
    return [pattern.format(triplet=triplet) for pattern in catalogue.image_directories[kind]]
