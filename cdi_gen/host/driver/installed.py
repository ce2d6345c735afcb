# SPDX-License-Identifier: Apache-2.0
"""Finds the libraries and files of the loaded kernel module's driver."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from cdi_gen.catalogue import Catalogue
from cdi_gen.errors import CdiGenError
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.proc import KernelModule
from cdi_gen.host.driver import files, places
from cdi_gen.host.driver.libraries import TRIPLETS, Libraries, LibrarySearch, foreign_architectures
from cdi_gen.host.result import SearchResult
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where, is_directory, library_search_path
from cdi_gen.inventory import DriverFile, Ignored, Library
from cdi_gen.paths import base_name, printable

KNOWN_DRIVER_ROOTS = ("/run/nvidia/driver", "/home/kubernetes/bin/nvidia")
"""Driver roots of NVIDIA's GPU operator and of Google's driver installer."""


class LibrariesNotInstalledError(CdiGenError):
    """The kernel module is loaded, but no library of its driver is installed."""

    code = "CDG-H003"


class InstalledDriver(NamedTuple):
    """The driver's part of the inventory."""

    version: str
    """Version of the libraries: the loaded module's version if it is installed."""
    libraries: list[Library]
    files: list[DriverFile]

    @property
    def stems(self) -> frozenset[str]:
        """The libraries' names up to ``.so``."""
        return frozenset(base_name(library.path).partition(".so")[0] for library in self.libraries)


def installed_driver(
    roots: Roots, where: Where, module: KernelModule, catalogue: Catalogue
) -> SearchResult[InstalledDriver]:
    """Return the libraries of the module's version, or else of another version, and their files.

    Raises:
        LibrariesNotInstalledError: no version of the libraries is installed.
        CdiGenError: the libraries are of another architecture, or none can be used.
    """
    architecture = module.architecture or os.uname().machine
    release = proc.kernel_release(roots.host)
    firmware_path = places.firmware_path(roots.host, roots.driver)
    search_path = library_search_path(roots, where)
    search = LibrarySearch(roots.driver, catalogue, architecture, search_path)
    if not search_path and module.version not in search.versions():
        other_places = places.Places(
            roots.driver,
            version=module.version,
            triplet=TRIPLETS.get(architecture, (architecture,))[0],
            firmware_path=firmware_path,
            kernel_release=release,
        )
        programs, walked = catalogue.directories["program"], catalogue.directories["walked"]
        search = search.widened(module.version, other_places.sources(programs, walked))
    versions = search.versions()
    if not versions:
        raise _not_installed(roots.host, search, module.version, where)
    version = module.version if module.version in versions else versions[0]
    libraries = search.find(version)
    if not libraries.values.libraries:
        raise _unusable(libraries, module.version, architecture, where) or _not_installed(
            roots.host, search, module.version, where
        )
    driver_files = files.FileSearch(
        roots.driver,
        roots.host,
        catalogue,
        library_directories=libraries.values.directories,
        config_search_path=where.config_search_path,
        belonging=libraries.values.belonging,
        fill={"version": version, "architecture": architecture, "release": release},
        firmware_path=firmware_path,
    ).find()
    driver = InstalledDriver(version, libraries.values.libraries, driver_files.values)
    incomplete = files.incomplete(catalogue, driver.files, driver.stems)
    return SearchResult(driver, (*libraries.records, *incomplete, *driver_files.records))


def _unusable(
    libraries: SearchResult[Libraries], loaded: str, architecture: str, where: Where
) -> CdiGenError | None:
    """Return the error if all libraries are unusable; None if only broken links exist."""
    foreign = foreign_architectures(libraries.records)
    if foreign:
        return CdiGenError(
            f"the driver's libraries under {where.driver_root} are for "
            f"{' and '.join(foreign)}, the loaded kernel module is for {architecture}",
            hint="give the driver root of this machine: --driver-root DIR",
            code="CDG-H004",
        )
    ignored = next((record for record in libraries.records if isinstance(record, Ignored)), None)
    if ignored is None:
        return None
    return CdiGenError(
        f"the kernel module {loaded} is loaded, and no library of it under "
        f"{where.driver_root} can be used: {ignored.path}: {ignored.reason}",
        hint="install the driver's libraries again",
        code="CDG-H005",
    )


def _not_installed(
    host: Root, search: LibrarySearch, loaded: str, where: Where
) -> LibrariesNotInstalledError:
    searched = ", ".join(map(printable, search.directories)) or "no existing directory"
    others = search.libraries_of(loaded)
    if others:
        # Fedora's packages, for example, have libcuda and NVML apart from the graphics libraries.
        return LibrariesNotInstalledError(
            f"the NVIDIA kernel module {loaded} is loaded, but neither its libcuda nor its "
            f"libnvidia-ml is installed under {where.driver_root}, only other libraries, such as "
            f"{printable(others[0])}",
            hint="install the driver's package for CUDA (nvidia-driver-cuda-libs, "
            "xorg-x11-drv-nvidia-cuda-libs, libcuda1 and libnvidia-ml1, libnvidia-compute-*), or "
            "give the libraries' directory: --library-search-path DIR",
        )
    return LibrariesNotInstalledError(
        f"the NVIDIA kernel module {loaded} is loaded, but none of its libraries is installed "
        f"under {where.driver_root}",
        hint=f"searched for libcuda.so.{loaded} in: {searched}; "
        f"if the driver is elsewhere, give {_driver_roots(host, where)}",
    )


def _driver_roots(host: Root, where: Where) -> str:
    """Return options that may help, with known driver roots that exist on this host."""
    existing = [
        root
        for root in KNOWN_DRIVER_ROOTS
        if root != where.driver_root and is_directory(host, root)
    ]
    examples = "".join(f" ({root} exists)" for root in existing)
    return f"--driver-root DIR{examples} or --library-search-path DIR"


def open_path(root: Root, libraries: Iterable[Library], name: str) -> str | None:
    """Return the path by which this process opens the 64-bit library with this beginning."""
    for library in libraries:
        if base_name(library.path).startswith(name) and library.bits == 64:
            path = root.inside(library.path)
            return None if path is None else root.open_path(path)
    return None
