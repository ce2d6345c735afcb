# SPDX-License-Identifier: Apache-2.0
"""Where to search: the host's root, the driver root, the dev root and search paths."""

from __future__ import annotations

import os
from typing import NamedTuple

from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root


class Where(NamedTuple):
    """Where to search, and for what. Paths are paths of the host."""

    host_root: str = "/"
    """The path of the host's ``/`` for this process."""
    driver_root: str = "/"
    dev_root: str | None = None
    """None: the driver root, or ``/`` if the driver root has no ``/dev``."""
    library_search_path: tuple[str, ...] = ()
    """Directories to search instead of the catalogue's and those of ld.so.cache."""
    config_search_path: tuple[str, ...] = ()
    hook_path: str | None = None
    """None: the installed hook program."""
    requirement_facts: bool = False
    """Ask libcuda and NVML for the facts of ``NVIDIA_REQUIRE_CUDA``: 40 ms or more for each GPU."""
    transports: bool = True
    """Search for nodes and files of transports, and for MIG access nodes."""
    nvml: bool = True
    """Ask NVML for facts that procfs does not have: UUIDs of sleeping GPUs, and MIG devices."""


class Roots(NamedTuple):
    """The directories of a ``Where``. All of them exist."""

    host: Root
    driver: Root
    dev: Root


def roots(where: Where) -> Roots:
    """Return the directories of ``where``.

    Raises:
        CdiGenError: a directory does not exist.
    """
    host = Root(seen_from=where.host_root)
    if not is_directory(host, "/"):
        message = f"--host-root: no such directory: {where.host_root}"
        raise CdiGenError(message, code="CDG-U010")
    _require_directory(host, where.driver_root, "--driver-root")
    driver = Root(where.driver_root, seen_from=where.host_root)
    dev_root = where.dev_root or (where.driver_root if is_directory(driver, "/dev") else "/")
    _require_directory(host, dev_root, "--dev-root")
    return Roots(host=host, driver=driver, dev=Root(dev_root, seen_from=where.host_root))


def library_search_path(roots: Roots, where: Where) -> tuple[str, ...]:
    """Return the user's library directories as paths of the driver root.

    Raises:
        CdiGenError: a directory does not exist, or is not below the driver root.
    """
    paths = []
    for directory in where.library_search_path:
        _require_directory(roots.host, directory, "--library-search-path")
        path = roots.driver.inside(directory)
        if path is None:
            raise CdiGenError(
                f"--library-search-path: {directory} is outside the driver root "
                f"{roots.driver.name}",
                hint="give directories below --driver-root, as paths of the host",
                code="CDG-U010",
            )
        paths.append(path)
    return tuple(paths)


def is_directory(root: Root, path: str) -> bool:
    """Whether a path of a root is a directory, or a link to one."""
    try:
        return os.path.isdir(root.open_path(root.resolve(path)))
    except OSError:
        return False


def _require_directory(host: Root, path: str, option: str) -> None:
    if ".." in path.split("/"):
        raise CdiGenError(
            f"{option}: {path} has a '..', which is ambiguous after a symbolic link",
            hint="give the path of the directory without '..'",
            code="CDG-U010",
        )
    if not is_directory(host, path):
        raise CdiGenError(f"{option}: no such directory: {path}", code="CDG-U010")
