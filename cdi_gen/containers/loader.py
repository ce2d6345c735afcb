# SPDX-License-Identifier: Apache-2.0
"""Finds out which libraries and programs of the driver a container's own programs find.

The container's files are read as the dynamic loader reads them, below its root; nothing of it is
executed. glibc's loader takes names from its cache and searches its default directories; musl's
searches the directories of its path file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import NamedTuple

from cdi_base import ld_so_cache
from cdi_gen.containers.records import Document, RecordError, Tree

MAX_CACHE = 16 << 20
MAX_PATH_FILE = 1 << 16
MAX_DIRECTORIES = 64

DIRECTORIES = frozenset({"/", "/etc", "/lib", "/lib64", "/usr", "/usr/lib", "/usr/lib64"})
"""Mount points below which a search goes."""

LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
PROGRAM = "nvidia-smi"

_TRIPLETS = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_MUSL = ("x86_64", "aarch64")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Programs(NamedTuple):
    """What programs in a container find."""

    libraries: Mapping[str, str | None]
    """For each of `LIBRARIES` the path that the loader finds; None: it finds none."""
    nvidia_smi: str | None
    """The path of nvidia-smi that a shell finds."""
    cache: str
    """The loader's cache: ``read``, ``absent``, ``damaged``; ``musl``: the loader has none."""


def programs(tree: Tree, environment: Mapping[str, str]) -> Programs:
    """Return what programs in a container find.

    Args:
        tree: the container's files.
        environment: of its first process.
    """
    is_musl = any(tree.exists(f"/lib/ld-musl-{machine}.so.1") for machine in _MUSL)
    state, cached = ("musl", {}) if is_musl else _cache(tree)
    directories = [*_split(environment.get("LD_LIBRARY_PATH", ""))]
    directories += _musl_directories(tree) if is_musl else _glibc_directories(tree)
    found = {name: _first(tree, name, directories, cached.get(name, ())) for name in LIBRARIES}
    path = _split(environment.get("PATH", _PATH))
    return Programs(found, _first(tree, PROGRAM, path, ()), state)


def environment(configuration: Document) -> dict[str, str]:
    """Return the environment of the first process by config.json; the last value of a name."""
    process = configuration.get("process")
    entries = process.get("env") if isinstance(process, dict) else None
    pairs = (
        entry.partition("=")
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, str)
    )
    return {name: value for name, _, value in pairs}


def _first(tree: Tree, name: str, directories: list[str], cached: tuple[str, ...]) -> str | None:
    """Return the first path of a name that exists: from the cache, then from directories."""
    for path in (*cached, *(posixpath.join(directory, name) for directory in directories)):
        if tree.exists(path):
            return path
    return None


def _cache(tree: Tree) -> tuple[str, dict[str, tuple[str, ...]]]:
    try:
        content = tree.read("/etc/ld.so.cache", MAX_CACHE)
    except RecordError:
        return "damaged", {}
    if content is None:
        return "absent", {}
    paths: dict[str, tuple[str, ...]] = {}
    wanted = {name.encode() for name in LIBRARIES}
    try:
        for _, name, path, _ in ld_so_cache.entries_of(content):
            if name in wanted:
                text = name.decode()
                paths[text] = (*paths.get(text, ()), path.decode("utf-8", "surrogateescape"))
    except ld_so_cache.CacheError:
        return "damaged", {}
    return "read", paths


def _glibc_directories(tree: Tree) -> list[str]:
    """The loader's own directories: with the triplet where the distribution's libc is there."""
    triplets = [
        triplet
        for triplet in _TRIPLETS
        if tree.exists(f"/lib/{triplet}/libc.so.6") or tree.exists(f"/usr/lib/{triplet}/libc.so.6")
    ]
    names = [f"lib/{triplet}" for triplet in triplets] or ["lib64"]
    return [f"/{prefix}{name}" for name in (*names, "lib") for prefix in ("", "usr/")]


def _musl_directories(tree: Tree) -> list[str]:
    for machine in _MUSL:
        try:
            content = tree.read(f"/etc/ld-musl-{machine}.path", MAX_PATH_FILE)
        except RecordError:
            continue
        if content is not None:
            return _split(content.decode("utf-8", "replace").replace("\n", ":"))
    return ["/lib", "/usr/local/lib", "/usr/lib"]


def _split(text: str) -> list[str]:
    """Return the absolute directories of a list like PATH."""
    return [part for part in text.split(":") if part.startswith("/") and "\0" not in part][
        :MAX_DIRECTORIES
    ]
