# SPDX-License-Identifier: Apache-2.0
"""Where to look: the directories that stand for the host, the driver root and the dev root."""

from __future__ import annotations

import os
from typing import NamedTuple

from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root


class Where(NamedTuple):
    """Where to look, and for what. Paths are the host's."""

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


class Roots(NamedTuple):
    """The directories of a ``Where``, which exist."""

    host: Root
    driver: Root
    dev: Root


def roots(where: Where) -> Roots:
    """Open the directories.

    Raises:
        CdiGenError: a directory does not exist.
    """
    host = Root(seen_from=where.host_root)
    if not is_directory(host, "/"):
        message = f"--host-root: there is no directory {where.host_root}"
        raise CdiGenError(message, code="CDG-U010")
    _require_directory(host, where.driver_root, "--driver-root")
    driver = Root(where.driver_root, seen_from=where.host_root)
    dev_root = where.dev_root or (where.driver_root if is_directory(driver, "/dev") else "/")
    _require_directory(host, dev_root, "--dev-root")
    return Roots(host=host, driver=driver, dev=Root(dev_root, seen_from=where.host_root))


def library_search_path(roots: Roots, where: Where) -> tuple[str, ...]:
    """The user's library directories, as paths in the driver root.

    Raises:
        CdiGenError: a directory does not exist, or is not below the driver root.
    """
    inside = []
    for directory in where.library_search_path:
        _require_directory(roots.host, directory, "--library-search-path")
        path = roots.driver.inside(directory)
        if path is None:
            raise CdiGenError(
                f"--library-search-path: {directory} is outside of the driver root "
                f"{roots.driver.name}",
                hint="name directories as the host sees them, below --driver-root",
                code="CDG-U010",
            )
        inside.append(path)
    return tuple(inside)


def is_directory(root: Root, path: str) -> bool:
    """Whether a path of a root leads to a directory."""
    try:
        return os.path.isdir(root.open_path(root.resolve(path)))
    except OSError:
        return False


def _require_directory(host: Root, path: str, option: str) -> None:
    if ".." in path.split("/"):
        raise CdiGenError(
            f"{option}: {path} has a '..', which leads elsewhere behind a link",
            hint="name the directory itself",
            code="CDG-U010",
        )
    if not is_directory(host, path):
        raise CdiGenError(f"{option}: there is no directory {path}", code="CDG-U010")
