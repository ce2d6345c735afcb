# SPDX-License-Identifier: Apache-2.0
"""Finds the entries of ld.so.cache for the directories of an image, as `ldconfig -X` does.

The existing cache of the image has results of its own ldconfig. Its entry of a name that still
exists is reused without opening the file, and so is its entry of the file that a SONAME link leads
to. So for most images only directories are listed and injected libraries are read. Every entry is
of an existing file: a wrong cache of an image affects only the loader of that image.
"""

from __future__ import annotations

import os
import stat

from cdi_base import ld_so_cache
from cdi_base.errors import HookError, SkippedError
from cdi_base.rootfs.opening import open_directory
from cdi_base.syscalls import MACHINE
from cdi_hook.ldso import cache_file
from cdi_hook.ldso.library_directory import FLAGS, HWCAPS, UNREADABLE, Folder, Library, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
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
        self._until = until
        self._seen: set[tuple[int, int]] = set()
        self._memory = Memory("the image's libraries", MAX_ENTRIES_KEPT)

    def add_folder(self, path: str) -> None:
        """Add the libraries of a directory, and of the `glibc-hwcaps` directories below it."""
        opened = self._open(path)
        if opened is None:
            return
        descriptor, identity = opened
        try:
            folder = Folder(self._rootfs, path, descriptor, self._until)
            folder.list(hwcaps=False)
            self._add(path, _by_soname(folder, self._reusable(path, identity, folder)))
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
            folder = Folder(self._rootfs, path, descriptor, self._until)
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

    def _open(self, path: str) -> tuple[int, tuple[int, int]] | None:
        """Return a descriptor and the identity of a directory; None if it was added before."""
        try:
            path_descriptor = self._rootfs.find(path)
            try:
                status = os.fstat(path_descriptor)
                identity = (status.st_dev, status.st_ino)
                if not stat.S_ISDIR(status.st_mode) or identity in self._seen:
                    return None
                self._seen.add(identity)
                return open_directory(path_descriptor), identity
            finally:
                os.close(path_descriptor)
        except OSError as error:
            if error.errno in UNREADABLE:
                return None
            raise

    def _reusable(self, path: str, identity: tuple[int, int], folder: Folder) -> dict[str, int]:
        """Return the names and flags of the image's cache for this directory: all or none.

        If a name leads nowhere, the cache is older than the directory, or was made without links.
        Then no entry is reused.
        """
        cached = self._cached.get(os.fsencode(path))
        if cached is None:
            cached = self._cached.get(self._cached_name(identity))
        flags_of = {os.fsdecode(name): flags for name, flags in (cached or {}).items()}
        if not flags_of.keys() <= folder.names.keys():
            return {}
        if not all(map(folder.leads_to_content, flags_of)):
            return {}
        return {name: flags for name, flags in flags_of.items() if flags in FLAGS}

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
        folder = os.fsencode(path) + b"/"
        for soname, library in reversed(libraries.items()):
            name = os.fsencode(soname)
            file = folder + (os.fsencode(library.name) if hwcaps else name)
            self._memory.keep(len(file) + len(name))
            self.entries.append(
                cache_file.Entry(name, file, library.flags, hwcaps, library.isa_level)
            )
            if len(self.entries) > ld_so_cache.MAX_ENTRIES:
                raise HookError(
                    f"the image has more than {ld_so_cache.MAX_ENTRIES} libraries", code="CDG-K008"
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
