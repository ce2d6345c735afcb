# SPDX-License-Identifier: Apache-2.0
"""Where the programs of an image look for the driver, whichever distribution it is of.

The host's layout and the image's differ as they like: a Red Hat host has Debian images. A library
is found by its name wherever the loader is told to look; these are the files that are not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cdi_gen.catalogue import Catalogue
from cdi_gen.generate.selection import stem
from cdi_gen.inventory import DriverFile, Library
from cdi_gen.paths import ContainerPath, base_name, beneath, join, parent

LOADER_DIRECTORIES = ("/usr/lib64", "/usr/lib")
"""Between them the loaders of all common images search these two by themselves: glibc built for
Debian and musl the second, glibc built for Red Hat, SUSE and Arch the first."""

LOADER_DIRECTORIES_32_BIT = ("/usr/lib32", "/usr/lib/i386-linux-gnu")
"""The same for 32-bit programs, of Arch and of Debian."""


RED_HATS_32_BIT = ("/usr/lib", "/lib")
"""Where Red Hat and SUSE have 32-bit libraries, and others 64-bit ones."""


def driver_directories(catalogue: Catalogue, architecture: str) -> list[str]:
    """Directories of images that are searched before the image's own libcuda is found."""
    return _directories(catalogue, "driver", architecture)


def library_directories(catalogue: Catalogue, architecture: str) -> list[str]:
    """Where the libraries of some image are, and its linker, scripts and variables look for others.

    As ``NUMBA_CUDA_DRIVER=/usr/lib/x86_64-linux-gnu/libcuda.so.1`` does, or a gcc that finds what a
    former driver left there before it comes to ``/usr/lib``.
    """
    return _directories(catalogue, "library", architecture)


def modules(library: Library, catalogue: Catalogue, architecture: str) -> Iterator[ContainerPath]:
    """Every path by which a library of some image opens this one as a module."""
    if library.bits != 32:
        for rule in catalogue.links:
            if rule.library == stem(library) and "/" in rule.link:
                for directory in library_directories(catalogue, architecture):
                    yield ContainerPath(join(directory, rule.link))


def xorg_modules(
    file: DriverFile, catalogue: Catalogue, architecture: str
) -> Iterator[ContainerPath]:
    """Every path by which some image's X server opens this file."""
    for entry in catalogue.files:
        if entry.name == file.entry and entry.module:
            for directory in _directories(catalogue, "xorg", architecture):
                yield ContainerPath(join(directory, entry.module))


def is_named_by_path(library: Library, home: str, catalogue: Catalogue) -> bool:
    """Whether a driver's ICD or EGL file may name the library with its directory, as NixOS' do."""
    named = {entry.companion for entry in catalogue.files if entry.kind == "data"}
    return library.bits != 32 and stem(library) in named and beneath(home, "/usr") is None


def above_modules(directory: str, catalogue: Catalogue) -> str:
    """The library directory that has this one, which may be one of modules (vdpau/), or is it."""
    is_of_modules = base_name(directory) in catalogue.directories["library_sub"]
    return parent(directory) if is_of_modules else directory


def leads_to(link: str, text: str) -> str:
    """Where a symbolic link leads."""
    return posixpath.normpath(posixpath.join(parent(link), text))


def _directories(catalogue: Catalogue, kind: str, architecture: str) -> list[str]:
    triplet = f"{architecture}-linux-gnu"
    return [each.format(triplet=triplet) for each in catalogue.image_directories[kind]]
