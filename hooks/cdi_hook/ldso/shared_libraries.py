# SPDX-License-Identifier: Apache-2.0
"""Finds the entries of ld.so.cache for the directories of an image, as `ldconfig -X` does.

The existing cache of the image has results of its own ldconfig. Its entry of a name that still
leads to content is reused without opening the file, and so is its entry of the file that a SONAME
link leads to. So for most images only directories are listed and injected libraries are read. Every
entry is of an existing file: a wrong cache of an image affects only the loader of that image.
"""

from __future__ import annotations

import os
import stat

from cdi_base import ld_so_cache
from cdi_base.errors import HookError, SkippedError
from cdi_base.rootfs import mounts
from cdi_base.rootfs.opening import open_directory
from cdi_base.syscalls import MACHINE
from cdi_hook.ldso import cache_file, unchanged
from cdi_hook.ldso.library_directory import (
    FLAGS,
    HWCAPS,
    UNREADABLE,
    Files,
    Folder,
    Library,
    Memory,
    is_library,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from cdi_base.rootfs.rootfs import RootFs

MAX_HWCAPS = 256
MAX_CACHED_FOLDERS = 64
MAX_ENTRIES_KEPT = 8 << 20
"""The largest size of names and paths; 20,000 libraries with usual names need 2 MiB."""


def entries(
    rootfs: RootFs, folders: list[str], cache: cache_file.Cache | None, until: float
) -> tuple[list[cache_file.Entry], list[bytes]]:
    """Return the libraries of directories, and the names of all `glibc-hwcaps` ones below them.

    Args:
        rootfs: the container's root.
        folders: lines of ld.so.conf; the first of several names of a directory counts.
        cache: the image's existing cache, if it may be used.
        until: the deadline, on the clock of `time.monotonic`.

    Raises:
        HookError: there are more libraries than the limits allow, or the deadline has passed.
        SkippedError: the flags of this machine's libraries are not known here.
    """
    if not FLAGS:
        raise SkippedError(f"the flags of libraries for {MACHINE} are not known")
    search = _Search(rootfs, cache, until)
    for line in folders:
        path = line.partition("=")[0].rstrip(" \t\r\f\v").rstrip("/")
        if path:
            search.add_folder(path)
    return search.entries, list(search.hwcaps)


class _Search:
    """One pass over the directories, with its results and their memory."""

    def __init__(self, rootfs: RootFs, cache: cache_file.Cache | None, until: float) -> None:
        self.entries: list[cache_file.Entry] = []
        self.hwcaps: dict[bytes, None] = {}
        self._rootfs = rootfs
        self._cached = cache.folders if cache else {}
        self._cached_identities: dict[tuple[int, int], bytes] | None = None
        self._cache_time = cache.time if cache else 0
        self._mount_points = mounts.names() if self._cache_time else set()
        self._started = _start_of(rootfs) if self._cache_time else 0
        self._files: Files = {}
        self._until = until
        self._seen: set[tuple[int, int]] = set()
        self._memory = Memory("the image's libraries", MAX_ENTRIES_KEPT)

    def add_folder(self, path: str) -> None:
        """Add the libraries of a directory, and of the `glibc-hwcaps` directories below it."""
        opened = self._open(path)
        if opened is None:
            return
        descriptor, status = opened
        try:
            folder = Folder(self._rootfs, path, descriptor, self._until, self._files)
            folder.list(hwcaps=False)
            self._add(path, self._libraries(path, status, folder))
        finally:
            os.close(descriptor)
        if folder.has_hwcaps:
            for name in self._hwcaps_folders(f"{path}/{HWCAPS}"):
                self._add_hwcaps_folder(f"{path}/{HWCAPS}/{name}", os.fsencode(name))

    def _add_hwcaps_folder(self, path: str, hwcaps: bytes) -> None:
        self.hwcaps[hwcaps] = None
        if len(self.hwcaps) > MAX_HWCAPS:
            raise HookError(
                f"the image has more than {MAX_HWCAPS} kinds of {HWCAPS}", code="CDG-K008"
            )
        opened = self._open(path)
        if opened is None:
            return
        descriptor, _ = opened
        try:
            folder = Folder(self._rootfs, path, descriptor, self._until, self._files)
            folder.list(hwcaps=True)
            self._add(path, _newest_by_soname(folder), hwcaps)
        finally:
            os.close(descriptor)

    def _hwcaps_folders(self, path: str) -> list[str]:
        """Return the names that lead to directories and that a cache can contain."""
        try:
            names = self._rootfs.names(path)
        except OSError as error:
            if error.errno in UNREADABLE:
                return []
            raise
        return [
            name
            for name in names
            if name[0] != "." and ":" not in name and self._rootfs.is_directory(f"{path}/{name}")
        ]

    def _open(self, path: str) -> tuple[int, os.stat_result] | None:
        """Return a descriptor and the attributes of a directory; None if it was added before."""
        try:
            path_descriptor = self._rootfs.find(path)
            try:
                status = os.fstat(path_descriptor)
                identity = (status.st_dev, status.st_ino)
                if not stat.S_ISDIR(status.st_mode) or identity in self._seen:
                    return None
                self._seen.add(identity)
                return open_directory(path_descriptor), status
            finally:
                os.close(path_descriptor)
        except OSError as error:
            if error.errno in UNREADABLE:
                return None
            raise

    def _libraries(self, path: str, status: os.stat_result, folder: Folder) -> dict[str, Library]:
        """Return the library of each SONAME in an ordinary directory, the first one first."""
        identity = (status.st_dev, status.st_ino)
        cached = self._cached_flags(path, identity)
        if cached and FLAGS.issuperset(cached.values()):
            changes = self._rootfs.changes.get(identity)
            time = changes.mtime if changes else status.st_mtime_ns
            is_older = time < self._cache_time
            if is_older or self._is_explained_by_mounts(folder, time):
                changed = self._mount_points.union(
                    folder.own_links, changes.names if changes else ()
                )
                listed = _listed(folder, cached)
                more = unchanged.unexplained(folder, listed, changed)
                libraries = None if more is None else _with_more(folder, listed, more)
                if libraries and (is_older or not _has_others(libraries, cached, changed)):
                    return libraries
        return _by_soname(folder, _reusable(folder, cached))

    def _is_explained_by_mounts(self, folder: Folder, time: int) -> bool:
        """Whether the runtime has changed a directory, to mount files of the container there."""
        return 0 < self._started <= time and not self._mount_points.isdisjoint(folder.names)

    def _cached_flags(self, path: str, identity: tuple[int, int]) -> dict[str, int]:
        """Return the names and flags that the image's cache has for a directory."""
        cached = self._cached.get(os.fsencode(path))
        if cached is None:
            cached = self._cached.get(self._cached_name(identity))
        return dict(zip(_decoded(cached), cached.values())) if cached else {}

    def _cached_name(self, identity: tuple[int, int]) -> bytes:
        """Return the name that the image's cache has for a directory with several names."""
        if self._cached_identities is None:
            self._cached_identities = {}
            for path in list(self._cached)[:MAX_CACHED_FOLDERS]:
                status = self._rootfs.status(os.fsdecode(path))
                if status:
                    self._cached_identities.setdefault((status.st_dev, status.st_ino), path)
        return self._cached_identities.get(identity, b"")

    def _add(self, path: str, libraries: dict[str, Library], hwcaps: bytes = b"") -> None:
        """Add the libraries of a directory, the last first, as ldconfig does."""
        if not libraries:
            return
        if len(self.entries) + len(libraries) > ld_so_cache.MAX_ENTRIES:
            raise HookError(
                f"the image has more than {ld_so_cache.MAX_ENTRIES} libraries", code="CDG-K008"
            )
        folder = os.fsencode(path) + b"/"
        names = _encoded(libraries)
        files = _encoded(library.name for library in libraries.values()) if hwcaps else names
        size = sum(map(len, files)) + sum(map(len, names))
        self._memory.keep(len(folder) * len(names) + size)
        for name, file, library in zip(
            reversed(names), reversed(files), reversed(libraries.values())
        ):
            self.entries.append(
                cache_file.Entry(name, folder + file, library.flags, hwcaps, library.isa_level)
            )


def _decoded(names: Iterable[bytes]) -> list[str]:
    """Return names as text; no name contains a NUL."""
    return os.fsdecode(b"\0".join(names)).split("\0")


def _encoded(names: Iterable[str]) -> list[bytes]:
    return os.fsencode("\0".join(names)).split(b"\0")


def _reusable(folder: Folder, cached: dict[str, int]) -> dict[str, int]:
    """Return the cached names that still lead to content in the directory, and their flags."""
    existing = [name for name, flags in cached.items() if name in folder.names and flags in FLAGS]
    return {name: cached[name] for name in folder.with_content(existing)}


def _listed(folder: Folder, cached: dict[str, int]) -> dict[str, int]:
    """Return the cached names that ldconfig would list in a directory.

    A library may have a SONAME that is no name of a library, in Debian's libopenmpi3
    `libmpi_usempi_ignore_tkr-gfortranso.40`. Its file, which the other names do not explain, is
    then read.
    """
    if cached.keys() <= folder.names.keys():
        return cached
    return {name: flags for name, flags in cached.items() if is_library(name)}


def _start_of(rootfs: RootFs) -> int:
    """Return the time, in nanoseconds, at which the engine began to start the container; or 0.

    Every engine writes config.json for a start; the runtime makes mount points after it.
    """
    if rootfs.bundle is None:
        return 0
    try:
        return os.stat("config.json", dir_fd=rootfs.bundle, follow_symlinks=False).st_mtime_ns
    except OSError:
        return 0


def _with_more(
    folder: Folder, cached: dict[str, int], more: list[str]
) -> dict[str, Library] | None:
    """Return the cached libraries, and those of more names, which are read.

    None if the order of names in the directory matters for the cache.
    """
    names = folder.names
    libraries = {name: Library(name, name, flags, 0, names[name]) for name, flags in cached.items()}
    for name in more:
        library = folder.library(name)
        if library:
            libraries.setdefault(library.soname, library)
    if len(libraries) > len(cached) and cache_file.has_equal_names(libraries):
        return None
    return libraries


def _has_others(
    libraries: dict[str, Library], cached: dict[str, int], changed: Container[str]
) -> bool:
    """Whether there are more libraries than those of the cache, of mounts and of the hook."""
    return any(
        soname not in cached and soname not in changed and library.name not in changed
        for soname, library in libraries.items()
    )


def _by_soname(folder: Folder, reusable: dict[str, int]) -> dict[str, Library]:
    """Return the library of each SONAME in an ordinary directory; the loader opens it by that name.

    Args:
        folder: the directory, listed.
        reusable: flags of names that are the SONAME of their file, by the image's cache.
    """
    covered = _covered(folder, reusable)
    libraries: dict[str, Library] = {}
    for name, is_link in folder.names.items():
        flags = reusable.get(name)
        if flags is not None:
            libraries.setdefault(name, Library(name, name, flags, 0, is_link))
            continue
        soname = covered.get(name)
        if soname is not None:
            libraries.setdefault(soname, Library(name, soname, reusable[soname], 0, is_link=False))
            continue
        library = folder.library(name)
        if library:
            libraries.setdefault(library.soname, library)
    return libraries


def _covered(folder: Folder, reusable: dict[str, int]) -> dict[str, str]:
    """Return files with their SONAME, which is the name of a reusable link to the file."""
    covered: dict[str, str] = {}
    ambiguous = set()
    for name in reusable:
        # The SONAME of the target of libx.so may also be libx.so.1.
        if folder.names[name] and not name.endswith(".so"):
            file = folder.leads_to(name)
            if file is None or file in reusable:
                continue
            if covered.setdefault(file, name) != name:
                ambiguous.add(file)
    return {file: name for file, name in covered.items() if file not in ambiguous}


def _newest_by_soname(folder: Folder) -> dict[str, Library]:
    """Return the newest file of each SONAME in a `glibc-hwcaps` directory, which may lack links."""
    libraries: dict[str, Library] = {}
    for name in folder.names:
        library = folder.library(name)
        if library is None:
            continue
        other = libraries.setdefault(library.soname, library)
        is_newer = cache_file.is_older(os.fsencode(other.name), os.fsencode(name))
        if (other.is_link and not library.is_link) or (
            other.is_link == library.is_link and is_newer
        ):
            # The flags of the first file are kept.
            library.flags = other.flags
            libraries[library.soname] = library
    return libraries
