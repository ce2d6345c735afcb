# SPDX-License-Identifier: Apache-2.0
"""Finds the driver's shared libraries by the version in their names, and what they need.

A library belongs to the driver if its file name ends in the driver's version; or if the catalogue
lists it as a library without the version, and it is not of another version; or if it is a library
of the catalogue that is installed under its SONAME, and it contains the version. Its directory has
no influence: the search covers the catalogue's directories and those of ``ld.so.cache``, and adds
the libraries of DT_NEEDED.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import replace
from typing import NamedTuple

from cdi_base import ld_so_cache
from cdi_base.elf import ElfError
from cdi_gen.catalogue import Catalogue
from cdi_gen.host.driver import shared_library
from cdi_gen.host.driver.installations import VERSION, Belonging
from cdi_gen.host.driver.library_names import LibraryNames
from cdi_gen.host.result import SearchResult
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Ignored, Library, Missing, Record
from cdi_gen.paths import HostPath, base_name, is_safe, parent, printable

TRIPLETS = {
    "x86_64": ("x86_64-linux-gnu", "i386-linux-gnu"),
    "aarch64": ("aarch64-linux-gnu", "arm-linux-gnueabihf"),
    "ppc64le": ("powerpc64le-linux-gnu", "powerpc-linux-gnu"),
}
"""Triplets of the directories for 64-bit and 32-bit libraries, by architecture."""
_VERSIONED = re.compile(rf"lib(?:cuda|nvidia-ml)\.so\.({VERSION})", re.ASCII)
_NVIDIA = re.compile(r"lib(?:cuda|nvidia|nvcuvid|nvoptix|\w+_nvidia)", re.ASCII)
FORWARD_COMPATIBILITY = "compat"
"""Directory of a CUDA toolkit. It has the libcuda of a driver, but not the driver."""
MAX_CACHE_BYTES = 16 << 20
MAX_OTHER_VERSIONS = 64
"""Limit of versions that are distinguished from the loaded one, by a search in files' content."""


_FOREIGN = "CDG-H406"


class Libraries(NamedTuple):
    """The driver's libraries in one root."""

    libraries: list[Library]
    directories: list[str]
    """Directories with a library of the driver, resolved in the root."""
    belonging: Belonging


def foreign_architectures(records: Iterable[Record]) -> list[str]:
    """Return the architectures of libraries that were ignored because they are not the host's."""
    reasons = {record.reason for record in records if record.code == _FOREIGN}
    return sorted(reason.removeprefix("built for ") for reason in reasons)


class LibrarySearch:
    """Searches the library directories of a root. Each directory is read once."""

    def __init__(
        self,
        root: Root,
        catalogue: Catalogue,
        architecture: str,
        search_path: tuple[str, ...] = (),
    ) -> None:
        self._root = root
        self._catalogue = catalogue
        self._machines = shared_library.MACHINES.get(architecture)
        self._names: dict[str, dict[str, bool]] = {}
        self._library_names = LibraryNames(catalogue)
        self._versions: list[str] | None = None
        cache = self._read_cache() if not search_path else SearchResult({})
        self._cache = cache.values
        self._cache_records = cache.records
        self.directories = self._search_directories(architecture, search_path)

    def _read_cache(self) -> SearchResult[dict[str, tuple[str, ...]]]:
        """Return paths by library name (``libcuda.so.1``), in the cache's order of preference."""
        paths: dict[str, list[str]] = {}
        try:
            content = self._root.read_bytes("/etc/ld.so.cache", MAX_CACHE_BYTES)
            for _, name, path, _ in ld_so_cache.entries_of(content):
                paths.setdefault(_text(name), []).append(_text(path))
        except OSError:
            return SearchResult({})
        except ld_so_cache.CacheError as error:
            damaged = Ignored(path="/etc/ld.so.cache", reason=f"damaged: {error}", code="CDG-H401")
            return SearchResult({}, (damaged,))
        return SearchResult({name: tuple(several) for name, several in paths.items()})

    def _search_directories(self, architecture: str, search_path: tuple[str, ...]) -> list[str]:
        if search_path:
            patterns = tuple(directory.strip("/") for directory in search_path)
        else:
            native, compat = TRIPLETS.get(architecture, (architecture, architecture))
            patterns = tuple(
                pattern.format(triplet=native, triplet32=compat)
                for pattern in self._catalogue.directories["library"]
                if pattern or self._root.name != "/"
            )
            cached = (
                parent(path).strip("/")
                for name, paths in self._cache.items()
                if _NVIDIA.match(name)
                for path in paths
            )
            patterns = tuple(dict.fromkeys((*patterns, *cached)))
        return self._with_subdirectories(patterns)

    def _with_subdirectories(self, patterns: tuple[str, ...]) -> list[str]:
        directories = list(self._root.directories(patterns))
        subdirectories = self._catalogue.directories["library_sub"]
        nested = (
            f"{directory.strip('/')}/{name}" for directory in directories for name in subdirectories
        )
        return list(dict.fromkeys((*directories, *self._root.directories(tuple(nested)))))

    def widened(
        self, version: str, sources: Iterable[Callable[[], Iterator[str]]]
    ) -> LibrarySearch:
        """Return a search that adds the directories of the first source that has the version."""
        for source in sources:
            patterns = tuple(directory.strip("/") for directory in source())
            added = [
                directory
                for directory in self._with_subdirectories(tuple(dict.fromkeys(patterns)))
                if directory not in self.directories
                and base_name(directory) != FORWARD_COMPATIBILITY
            ]
            if any(
                f".so.{version}" in name for directory in added for name in self.names(directory)
            ):
                wider = copy(self)
                wider.directories = [*self.directories, *added]
                wider._versions = None  # noqa: SLF001 - of the same class
                return wider
        return self

    def names(self, directory: str) -> dict[str, bool]:
        """Return the shared libraries in a directory: by name, whether it is a symbolic link."""
        if directory not in self._names:
            self._names[directory] = {
                entry.name: entry.is_symlink()
                for entry in self._root.entries(directory)
                if entry.name.startswith("lib") and ".so" in entry.name
            }
        return self._names[directory]

    def versions(self) -> list[str]:
        """Return the versions of libcuda and libnvidia-ml in the directories, newest first."""
        if self._versions is None:
            versions = {
                match[1]
                for directory in self.directories
                for name in self.names(directory)
                if (match := _VERSIONED.fullmatch(name))
            }
            self._versions = sorted(versions, key=_version_key, reverse=True)
        return self._versions

    def libraries_of(self, version: str) -> list[str]:
        """Return the paths of all files with this version in their names."""
        return [
            f"{directory}/{name}"
            for directory in self.directories
            for name in sorted(self.names(directory))
            if name.endswith(f".so.{version}")
        ]

    def find(self, version: str) -> SearchResult[Libraries]:
        """Return all libraries of one version of the driver."""
        others = tuple(name for name in self.versions() if name != version)[:MAX_OTHER_VERSIONS]
        belonging = Belonging(self._root, version, others)
        candidates = self._candidates(version, belonging)
        records: list[Record] = [*self._cache_records, *candidates.records]
        libraries: dict[str, Library] = {}
        other_records: list[Record] = []
        for path in candidates.values:
            library = self._library(path)
            if isinstance(library, Ignored):
                records.append(library)
            elif other_version := belonging.other_version(path):
                reason = f"belongs to driver {other_version}"
                other_records.append(Ignored(path=path, reason=reason, code="CDG-H402"))
            else:
                libraries[path] = library
        needed = self._needed_by(libraries, version, belonging)
        libraries |= needed.values
        directories = sorted({parent(path) for path in libraries})
        distinct = self._without_duplicates(libraries, version)
        values = Libraries(
            libraries=sorted(self._with_names(distinct.values), key=lambda library: library.path),
            directories=directories,
            belonging=belonging,
        )
        return SearchResult(values, (*records, *other_records, *needed.records, *distinct.records))

    def _candidates(self, version: str, belonging: Belonging) -> SearchResult[list[str]]:
        """Return the resolved paths of files with a name of the driver."""
        paths: dict[str, None] = {}
        records: list[Record] = []
        for directory in self.directories:
            for name, is_link in self.names(directory).items():
                named = f"{directory}/{name}"
                if (
                    not is_link
                    and self._library_names.is_soname(name)
                    and belonging.contains_version(named)
                ):
                    paths.setdefault(named)
                    continue
                if not self._library_names.is_of_version(name, version):
                    continue
                try:
                    path = self._root.resolve(named)
                except OSError as error:
                    reason = error.strerror or str(error)
                    records.append(Ignored(path=printable(named), reason=reason, code="CDG-H403"))
                    continue
                # The name of a link is not enough: libnvidia-nvvm.so.4 may point to an old file.
                if self._library_names.is_of_version(base_name(path), version):
                    paths.setdefault(path)
        return SearchResult(list(paths), tuple(records))

    def _library(self, path: str) -> Library | Ignored:
        """Return the library at a resolved path, or why it is ignored."""
        if not is_safe(path):
            reason = "a file name that cannot be used in a spec"
            return Ignored(path=printable(path), reason=reason, code="CDG-H404")
        try:
            shared = shared_library.read(self._root.open_path(path))
        except (ElfError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return Ignored(path=path, reason=reason, code="CDG-H405")
        if self._machines and shared.machine not in self._machines:
            return Ignored(path=path, reason=f"built for {shared.architecture}", code=_FOREIGN)
        name = base_name(path)
        soname = shared.soname if shared.soname and is_safe(shared.soname) else name
        return Library(
            path=HostPath(self._root.host_path(path)),
            bits=shared.bits,
            soname=soname,
            needed=shared.needed,
        )

    def _needed_by(
        self, libraries: dict[str, Library], version: str, belonging: Belonging
    ) -> SearchResult[dict[str, Library]]:
        """Return further libraries of the driver that ``libraries`` need, by path."""
        needed: dict[str, Library] = {}
        records: list[Record] = []
        seen = {
            (library.bits, name)
            for path, library in libraries.items()
            for name in _names(path, library)
        }
        pending = list(libraries.values())
        while pending:
            library = pending.pop()
            for name in library.needed:
                if (library.bits, name) in seen or not self._library_names.is_needed(name, version):
                    continue
                seen.add((library.bits, name))
                result = self._needed(name, library.bits, belonging)
                records += result.records
                if result.values is None:
                    reason = f"not found; {library.path} needs it"
                    records.append(Missing(name=name, reason=reason, code="CDG-H203"))
                    continue
                path, added = result.values
                needed[path] = added
                pending.append(added)
        return SearchResult(needed, tuple(records))

    def _needed(
        self, name: str, bits: int, belonging: Belonging
    ) -> SearchResult[tuple[str, Library] | None]:
        """Return the library of this name, with its resolved path; None if it does not exist."""
        records: list[Record] = []
        candidates = [f"{directory}/{name}" for directory in self.directories]
        for candidate in (*candidates, *self._cache.get(name, ())):
            try:
                path = self._root.resolve(candidate)
            except OSError:
                continue
            library = self._library(path)
            if isinstance(library, Ignored):
                records.append(library)
            elif library.bits == bits and belonging.other_version(path) is None:
                return SearchResult((path, library), tuple(records))
        return SearchResult(None, tuple(records))

    def _with_names(self, libraries: dict[str, Library]) -> Iterable[Library]:
        """Yield the libraries with the names of all links to them."""
        stems = {base_name(path).partition(".so")[0] for path in libraries}
        homes = {(parent(path), base_name(path).partition(".so")[0]): path for path in libraries}
        links: dict[str, set[str]] = {}
        for directory in dict.fromkeys((*self.directories, *(home for home, _ in homes))):
            for name, is_link in self.names(directory).items():
                stem = name.partition(".so")[0]
                if not is_link or stem not in stems or not is_safe(name):
                    continue
                try:
                    target = self._root.resolve(f"{directory}/{name}")
                except OSError:
                    continue
                if target not in libraries and base_name(target).partition(".so")[0] == stem:
                    # A link to another version of the library: containers have only this version.
                    target = homes.get((directory, stem), "")
                if target in libraries:
                    links.setdefault(target, set()).add(f"{directory}/{name}")
        for path, library in libraries.items():
            home = parent(path)
            own = {link for link in links.get(path, ()) if parent(link) == home}
            yield replace(
                library,
                links=tuple(sorted(base_name(link) for link in own)),
                aliases=tuple(
                    sorted(link for link in links.get(path, set()) - own if is_safe(link))
                ),
            )

    def _without_duplicates(
        self, libraries: dict[str, Library], version: str
    ) -> SearchResult[dict[str, Library]]:
        """Return one file for each name by which programs load it, as the loader does."""
        by_name: dict[tuple[int, str, str], list[str]] = {}
        for path, library in libraries.items():
            stem = base_name(path).partition(".so")[0]
            by_name.setdefault((library.bits, stem, library.soname), []).append(path)
        chosen: set[str] = set()
        records: list[Record] = []
        for (_, _, soname), paths in by_name.items():
            first = paths[0] if len(paths) == 1 else self._preferred(paths, soname, version)
            chosen.add(first)
            for path in paths:
                if path != first:
                    same = base_name(path) == base_name(first)
                    relation = "a copy of" if same else "the host uses instead, under this name,"
                    reason = f"{relation} {libraries[first].path}"
                    records.append(
                        Ignored(path=libraries[path].path, reason=reason, code="CDG-H407")
                    )
        distinct = {path: library for path, library in libraries.items() if path in chosen}
        return SearchResult(distinct, tuple(records))

    def _preferred(self, paths: list[str], soname: str, version: str) -> str:
        """Return the preferred file of one name: with the version, used by the host, or newest."""
        versioned = [path for path in paths if path.endswith(f".so.{version}")]
        if versioned:
            return versioned[0]
        candidates = [f"{directory}/{soname}" for directory in self.directories]
        for candidate in (*self._cache.get(soname, ()), *candidates):
            try:
                target = self._root.resolve(candidate)
            except OSError:
                continue
            if target in paths:
                return target
        newest = max(map(_numbers, paths))
        return next(path for path in paths if _numbers(path) == newest)


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="surrogateescape")


def _version_key(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _names(path: str, library: Library) -> tuple[str, str]:
    return base_name(path), library.soname


def _numbers(path: str) -> tuple[int, ...]:
    """Return the numbers in a library's file name, by which ldconfig orders libraries."""
    return tuple(int(part) for part in base_name(path).split(".") if part.isdecimal())
