# SPDX-License-Identifier: Apache-2.0
"""Which entries of ld.so.cache the folders of an image give: what `ldconfig -X` finds in them.

The cache that the image has already is a memory of what its own ldconfig read. What it says of a
name that is still in its folder is taken over without opening the file, and so is what it says of
the file that a SONAME link leads to; a normal image costs a few listings and the libraries that
were injected. Whatever it says, an entry is of a file that is there: an image whose cache lies
deceives its own loader only.
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
MAX_KNOWN_FOLDERS = 64
MAX_ENTRIES_KEPT = 8 << 20
"""Bytes of names and paths; 20,000 libraries as images have them need 2 MiB."""


def entries(
    rootfs: RootFs, folders: list[str], known: cache_file.Cache | None, until: float
) -> tuple[list[cache_file.Entry], list[bytes]]:
    """The libraries of the folders, and the names of all `glibc-hwcaps` folders below them.

    Args:
        rootfs: the container's root.
        folders: as the lines of ld.so.conf have them; of a folder's several names the first counts.
        known: what the image's own cache says, if it may be used.
        until: the deadline, on the clock of `time.monotonic`.

    Raises:
        HookError: there is more than any loader should have to look at, or no time left.
        SkippedError: the flags of this machine's libraries are not known here.
    """
    if not FLAGS:
        raise SkippedError(f"no cache can be made for {MACHINE}")
    search = _Search(rootfs, known, until)
    for line in folders:
        path = line.partition("=")[0].rstrip(" \t\r\f\v").rstrip("/")
        if path:
            search.look(path)
    return search.entries, list(search.hwcaps)


class _Search:
    """One going through the folders, with what it has found and what that has cost."""

    def __init__(self, rootfs: RootFs, known: cache_file.Cache | None, until: float) -> None:
        self.entries: list[cache_file.Entry] = []
        self.hwcaps: dict[bytes, None] = {}
        self._rootfs = rootfs
        self._known = known.folders if known else {}
        self._known_places: dict[tuple[int, int], bytes] | None = None
        self._until = until
        self._seen: set[tuple[int, int]] = set()
        self._memory = Memory("the image's libraries", MAX_ENTRIES_KEPT)

    def look(self, path: str) -> None:
        """Look at a folder of the configuration, and at the `glibc-hwcaps` folders below it."""
        found = self._open(path)
        if found is None:
            return
        descriptor, place = found
        try:
            folder = Folder(self._rootfs, path, descriptor, self._until)
            folder.list(hwcaps=False)
            self._add(path, _by_soname(folder, self._remembered(path, place, folder)))
        finally:
            os.close(descriptor)
        if folder.has_hwcaps:
            for name in self._hwcaps_folders(f"{path}/{HWCAPS}"):
                self._look_at_hwcaps(f"{path}/{HWCAPS}/{name}", os.fsencode(name))

    def _look_at_hwcaps(self, path: str, hwcaps: bytes) -> None:
        self.hwcaps[hwcaps] = None
        if len(self.hwcaps) > MAX_HWCAPS:
            raise HookError(
                f"the image has more than {MAX_HWCAPS} kinds of {HWCAPS}", code="CDG-K008"
            )
        found = self._open(path)
        if found is None:
            return
        descriptor, _ = found
        try:
            folder = Folder(self._rootfs, path, descriptor, self._until)
            folder.list(hwcaps=True)
            self._add(path, _newest_by_soname(folder), hwcaps)
        finally:
            os.close(descriptor)

    def _hwcaps_folders(self, path: str) -> list[str]:
        """Names that the loader can be told of and that lead to directories."""
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
        """A descriptor and the identity of a directory that was not looked at under any name."""
        try:
            place = self._rootfs.find(path)
            try:
                status = os.fstat(place)
                identity = (status.st_dev, status.st_ino)
                if not stat.S_ISDIR(status.st_mode) or identity in self._seen:
                    return None
                self._seen.add(identity)
                return open_directory(place), identity
            finally:
                os.close(place)
        except OSError as error:
            if error.errno in UNREADABLE:
                return None
            raise

    def _remembered(self, path: str, place: tuple[int, int], folder: Folder) -> dict[str, int]:
        """Names and flags that the image's cache has for this folder: all of them or none.

        A name that leads to nothing shows a cache that is older than the folder, or one that was
        made without links: then everything is read.
        """
        known = self._known.get(os.fsencode(path))
        if known is None:
            known = self._known.get(self._other_name(place))
        remembered = {os.fsdecode(name): flags for name, flags in (known or {}).items()}
        if not remembered.keys() <= folder.names.keys():
            return {}
        if not all(map(folder.leads_to_content, remembered)):
            return {}
        return {name: flags for name, flags in remembered.items() if flags in FLAGS}

    def _other_name(self, place: tuple[int, int]) -> bytes:
        """What the image's cache calls a folder that we call otherwise (/lib/x, /usr/lib/x)."""
        if self._known_places is None:
            self._known_places = {}
            for path in list(self._known)[:MAX_KNOWN_FOLDERS]:
                status = self._rootfs.status(os.fsdecode(path))
                if status:
                    self._known_places.setdefault((status.st_dev, status.st_ino), path)
        return self._known_places.get(place, b"")

    def _add(self, path: str, found: dict[str, Library], hwcaps: bytes = b"") -> None:
        """Take over what a folder has, the last first, as ldconfig does."""
        folder = os.fsencode(path) + b"/"
        for soname, library in reversed(found.items()):
            name = os.fsencode(soname)
            place = folder + (os.fsencode(library.name) if hwcaps else name)
            self._memory.keep(len(place) + len(name))
            self.entries.append(
                cache_file.Entry(name, place, library.flags, hwcaps, library.isa_level)
            )
            if len(self.entries) > ld_so_cache.MAX_ENTRIES:
                raise HookError(
                    f"the image has more than {ld_so_cache.MAX_ENTRIES} libraries", code="CDG-K008"
                )


def _by_soname(folder: Folder, remembered: dict[str, int]) -> dict[str, Library]:
    """Each SONAME of an ordinary folder once; the loader will open it by that name.

    Args:
        folder: the folder, listed.
        remembered: flags of those of its names that are known to be the SONAME of their file.
    """
    covered = _covered(folder, remembered)
    found: dict[str, Library] = {}
    for name, is_link in folder.names.items():
        flags = remembered.get(name)
        if flags is not None:
            found.setdefault(name, Library(name, name, flags, 0, is_link))
            continue
        soname = covered.get(name)
        if soname is not None:
            found.setdefault(soname, Library(name, soname, remembered[soname], 0, is_link=False))
            continue
        library = folder.library(name)
        if library:
            found.setdefault(library.soname, library)
    return found


def _covered(folder: Folder, remembered: dict[str, int]) -> dict[str, str]:
    """Files whose SONAME a remembered link tells: it has that name and leads to the file."""
    covered: dict[str, str] = {}
    doubtful = set()
    for name in remembered:
        # Where libx.so leads, the SONAME may be libx.so.1 as well.
        if folder.names[name] and not name.endswith(".so"):
            file = folder.leads_to(name)
            if file is None or file in remembered:
                continue
            if covered.setdefault(file, name) != name:
                doubtful.add(file)
    return {file: name for file, name in covered.items() if file not in doubtful}


def _newest_by_soname(folder: Folder) -> dict[str, Library]:
    """Of each SONAME in a `glibc-hwcaps` folder the newest file, which has no link to it there."""
    found: dict[str, Library] = {}
    for name in folder.names:
        library = folder.library(name)
        if library is None:
            continue
        known = found.setdefault(library.soname, library)
        newer = cache_file.is_older(os.fsencode(known.name), os.fsencode(name))
        if (known.is_link and not library.is_link) or (known.is_link == library.is_link and newer):
            # The flags stay those of the first.
            library.flags = known.flags
            found[library.soname] = library
    return found
