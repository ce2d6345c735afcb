# SPDX-License-Identifier: Apache-2.0
"""Looks at the machine and returns its inventory; the only part of cdi-gen that looks.

It knows NVIDIA's driver and not the Container Device Interface.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

from cdi_gen.catalogue import Catalogue, catalogue
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.host import boot, hook_program, platforms
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.gpus import GpuSearch
from cdi_gen.host.devices.mig_access import mig_access
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.driver import files, places
from cdi_gen.host.driver.libraries import TRIPLETS, LibrarySearch
from cdi_gen.host.roots import Root
from cdi_gen.inventory import DGPU, Driver, Inventory, Library
from cdi_gen.paths import base_name, join, printable


class Where(NamedTuple):
    """Where to look. Paths are the host's."""

    host_root: str = "/"
    """Where the host's ``/`` is visible to this process."""
    driver_root: str = "/"
    dev_root: str | None = None
    """None: the driver root, or ``/`` where that has no ``/dev``."""
    library_search_path: tuple[str, ...] = ()
    """In place of the usual directories and ld.so.cache."""
    config_search_path: tuple[str, ...] = ()
    hook_path: str | None = None
    """None: the installed hook program."""
    requirement_facts: bool = False
    """Ask libcuda and NVML for what ``NVIDIA_REQUIRE_CUDA`` is about: 40 ms a GPU and more."""
    transports: bool = True
    """Look for what no GPU's spec has: nodes and files of transports, and MIG access nodes."""


THIS_HOST = Where()
KNOWN_DRIVER_ROOTS = ("/run/nvidia/driver", "/home/kubernetes/bin/nvidia")
"""Of NVIDIA's GPU operator and of Google's driver installer."""


def gather(where: Where = THIS_HOST) -> Inventory:
    """Look at the host.

    Raises:
        NoDriverError: no NVIDIA kernel module is loaded.
        CdiGenError: a directory that was asked for is not there; or the module is loaded, and its
            libraries are not found or are of another architecture; or this is a platform of
            NVIDIA's that this version does not support.
    """
    host = Root(seen_from=where.host_root)
    _require_host(host, where.host_root)
    _require_directory(host, where.driver_root, "--driver-root")
    root = Root(where.driver_root, seen_from=where.host_root)
    dev_root = where.dev_root or (where.driver_root if _is_there(root, "/dev") else "/")
    _require_directory(host, dev_root, "--dev-root")
    module = proc.kernel_module(host)
    if module is None:
        raise platforms.unsupported(host) or _no_module()
    known = catalogue()
    architecture = module.architecture or os.uname().machine
    search = LibrarySearch(
        root, known, architecture, _search_path(host, root, where.library_search_path)
    )
    firmware_path = places.firmware_path(host, root)
    release = proc.kernel_release(host)
    if not where.library_search_path and module.version not in search.versions():
        search.widen(
            module.version,
            places.Places(
                root,
                version=module.version,
                triplet=TRIPLETS.get(architecture, (architecture,))[0],
                firmware_path=firmware_path,
                kernel_release=release,
            ).sources(known.directories["program"], known.directories["walked"]),
        )
    version = _library_version(host, search, module.version, where)
    found = search.find(version)
    if not found.libraries and search.foreign:
        raise CdiGenError(
            f"the driver's libraries under {where.driver_root} are for "
            f"{' and '.join(sorted(search.foreign))}, the loaded kernel module is for "
            f"{architecture}",
            hint="name the driver root of this machine's own driver: --driver-root DIR",
            code="CDG-H004",
        )
    if not found.libraries and search.left:
        raise CdiGenError(
            f"the kernel module {module.version} is loaded, and no library of it under "
            f"{where.driver_root} can be used: {search.left[0].path}: {search.left[0].reason}",
            hint="install the driver's libraries again",
            code="CDG-H005",
        )
    if not found.libraries:  # links that lead nowhere
        raise _not_installed(host, search, module.version, where)
    file_search = files.FileSearch(
        root,
        host,
        known,
        library_directories=found.directories,
        config_search_path=where.config_search_path,
        belonging=found.belonging,
        fill={"version": version, "architecture": architecture, "release": release},
        firmware_path=firmware_path,
    )
    driver_files = file_search.find()
    dev = Root(dev_root, seen_from=where.host_root)
    majors = proc.majors(host)
    stems = frozenset(base_name(each.path).partition(".so")[0] for each in found.libraries)
    nodes = DeviceNodes(host, dev, majors, _served(known, stems))
    gpus = GpuSearch(
        host,
        nodes,
        _seen(root, found.libraries, "libnvidia-ml.so."),
        requirement_facts=where.requirement_facts,
    )
    gpus.find()
    control_nodes = nodes.control(known.control_nodes)
    inventory = Inventory(
        platform=DGPU,
        architecture=architecture,
        driver_root=join(where.driver_root),
        dev_root=join(dev_root),
        driver=Driver(
            version=module.version,
            kernel_module=module.kind,
            library_version=version,
            cuda_version=_cuda_version(root, found.libraries) if where.requirement_facts else None,
        ),
        gpus=tuple(gpus.gpus),
        mig_devices=tuple(gpus.mig_devices),
        control_nodes=control_nodes,
        libraries=tuple(found.libraries),
        files=tuple(driver_files),
        hook=hook_program.find(host, where.hook_path),
        engines_make_nodes=boot.engines_make_nodes(host),
        booting=bool(nodes.missing) and not boot.is_over(host),
        missing=(
            *found.missing,
            *files.incomplete(known, driver_files, stems),
            *nodes.missing,
            *gpus.missing,
        ),
        stale=nodes.stale,
        skipped=tuple(gpus.skipped),
        left=(*search.left, *file_search.left, *gpus.left),
    )
    if not where.transports:
        return inventory
    roots = (root,) if root.name == host.name else (root, host)
    # The driver makes the MIG access nodes when they are used: none that is absent is missing.
    inventory = replace(inventory, mig_access=mig_access(host, DeviceNodes(host, dev, majors)))
    return _with_transports(inventory, DeviceNodes(host, dev, majors), roots)


def _with_transports(
    inventory: Inventory, nodes: DeviceNodes, roots: tuple[Root, ...]
) -> Inventory:
    from cdi_gen.host.devices.transports import TransportSearch  # noqa: PLC0415 - most looks do without

    found = TransportSearch(nodes, roots).find(catalogue().transports)
    return replace(
        inventory,
        transport_nodes=found.nodes,
        transport_files=found.files,
        missing=(*inventory.missing, *nodes.missing),
        stale=(*inventory.stale, *nodes.stale),
        left=(*inventory.left, *found.left),
    )


def _served(known: Catalogue, stems: frozenset[str]) -> frozenset[str]:
    """Capabilities that have a library of their own among these."""
    listed = (known.libraries.get(stem, frozenset()) for stem in stems)
    return frozenset(name for each in listed if len(each) == 1 for name in each)


def _require_host(host: Root, root: str) -> None:
    if not _is_there(host, "/"):
        raise CdiGenError(f"--host-root: there is no directory {root}", code="CDG-U010")


def _require_directory(host: Root, path: str, what: str) -> None:
    if ".." in path.split("/"):
        raise CdiGenError(
            f"{what}: {path} has a '..', which leads elsewhere behind a link",
            hint="name the directory itself",
            code="CDG-U010",
        )
    if not _is_there(host, path):
        raise CdiGenError(f"{what}: there is no directory {path}", code="CDG-U010")


def _no_module() -> NoDriverError:
    return NoDriverError(
        "no NVIDIA driver is loaded on this host (/proc/driver/nvidia/version is not there)",
        hint="install the driver, or load it with: modprobe nvidia",
        code="CDG-H001",
    )


def _search_path(host: Root, root: Root, directories: tuple[str, ...]) -> tuple[str, ...]:
    """The user's library directories, host paths, as paths in the driver root."""
    found = []
    for directory in directories:
        _require_directory(host, directory, "--library-search-path")
        inside = root.inside(directory)
        if inside is None:
            raise CdiGenError(
                f"--library-search-path: {directory} is outside of the driver root {root.name}",
                hint="name directories as the host sees them, below --driver-root",
                code="CDG-U010",
            )
        found.append(inside)
    return tuple(found)


def _library_version(host: Root, search: LibrarySearch, loaded: str, where: Where) -> str:
    """The version of the libraries: the loaded module's where it is installed."""
    versions = search.versions()
    if loaded in versions:
        return loaded
    if versions:
        return versions[0]
    unsupported = platforms.unsupported(host)
    if unsupported:
        raise unsupported
    raise _not_installed(host, search, loaded, where)


def _not_installed(host: Root, search: LibrarySearch, loaded: str, where: Where) -> CdiGenError:
    looked_in = ", ".join(map(printable, search.directories)) or "no directory that exists"
    return CdiGenError(
        f"the NVIDIA kernel module {loaded} is loaded, but none of its libraries is installed "
        f"under {where.driver_root}",
        hint=f"looked for libcuda.so.{loaded} in: {looked_in}; "
        f"if the driver is elsewhere, name it: {_driver_roots(host, where)}",
        code="CDG-H003",
    )


def _driver_roots(host: Root, where: Where) -> str:
    """Options that could help, with the driver roots of other programs that this host has."""
    there = [
        each for each in KNOWN_DRIVER_ROOTS if each != where.driver_root and _is_there(host, each)
    ]
    known = "".join(f" ({each} is there)" for each in there)
    return f"--driver-root DIR{known} or --library-search-path DIR"


def _is_there(host: Root, path: str) -> bool:
    try:
        return os.path.isdir(host.open_path(host.resolve(path)))
    except OSError:
        return False


def _cuda_version(root: Root, libraries: list[Library]) -> str | None:
    from cdi_gen.host.driver import libcuda  # noqa: PLC0415 - most looks do without

    library = _seen(root, libraries, "libcuda.so.")
    return None if library is None else libcuda.newest_version(library)


def _seen(root: Root, libraries: list[Library], name: str) -> str | None:
    """Where this process can open the 64-bit library whose file name begins like this."""
    for library in libraries:
        if base_name(library.path).startswith(name) and library.bits == 64:
            inside = root.inside(library.path)
            return None if inside is None else root.open_path(inside)
    return None
