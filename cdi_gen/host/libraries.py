# SPDX-License-Identifier: Apache-2.0
"""The driver's shared libraries: by the version in their names, closed over what they need.

A library belongs to the driver when its file name ends in the driver's version, or when the
catalogue lists it as one that does not carry the version. Where it lies is of no importance: the
usual directories and those that ``ld.so.cache`` names are all searched, and DT_NEEDED brings in
the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from cdi_gen.catalogue import Catalogue
from cdi_gen.host import elf, ldcache
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Left, Library, Missing
from cdi_gen.paths import HostPath, base_name, is_safe, parent, printable

_TRIPLETS = {
    "x86_64": ("x86_64-linux-gnu", "i386-linux-gnu"),
    "aarch64": ("aarch64-linux-gnu", "arm-linux-gnueabihf"),
    "ppc64le": ("powerpc64le-linux-gnu", "powerpc-linux-gnu"),
}
_VERSIONED = re.compile(r"lib(?:cuda|nvidia-ml)\.so\.(\d+\.\d+(?:\.\d+)*)", re.ASCII)
_NVIDIA = re.compile(r"lib(?:cuda|nvidia|nvcuvid|nvoptix|\w+_nvidia)", re.ASCII)
MAX_CACHE_BYTES = 16 << 20


class Findings(NamedTuple):
    """The driver's libraries in one root."""

    libraries: list[Library]
    directories: list[str]
    """Directories, resolved in the root, in which a library of the driver lies."""
    missing: list[Missing]


class LibrarySearch:
    """The library directories of a root, each read once."""

    def __init__(
        self,
        root: Root,
        catalogue: Catalogue,
        architecture: str,
        search_path: tuple[str, ...] = (),
    ) -> None:
        self._root = root
        self._catalogue = catalogue
        self._names: dict[str, dict[str, bool]] = {}
        self._modules = {
            each.name.partition(".so")[0] for each in catalogue.files if each.kind == "xorg"
        }
        self.left: list[Left] = []
        self._cache = {} if search_path else self._read_cache()
        self.directories = self._search_directories(architecture, search_path)

    def _read_cache(self) -> dict[str, tuple[str, ...]]:
        try:
            return ldcache.parse(self._root.read_bytes("/etc/ld.so.cache", MAX_CACHE_BYTES))
        except OSError:
            return {}
        except ldcache.LdCacheError as error:
            self.left.append(Left(path="/etc/ld.so.cache", reason=f"damaged: {error}"))
            return {}

    def _search_directories(self, architecture: str, search_path: tuple[str, ...]) -> list[str]:
        if search_path:
            patterns = tuple(each.strip("/") for each in search_path)
        else:
            native, compat = _TRIPLETS.get(architecture, (architecture, architecture))
            patterns = tuple(
                each.format(triplet=native, triplet32=compat)
                for each in self._catalogue.directories["library"]
            )
            cached = (
                parent(path).strip("/")
                for name, paths in self._cache.items()
                if _NVIDIA.match(name)
                for path in paths
            )
            patterns = tuple(dict.fromkeys((*patterns, *cached)))
        found = list(self._root.directories(patterns))
        subdirectories = self._catalogue.directories["library_sub"]
        nested = (f"{each.strip('/')}/{name}" for each in found for name in subdirectories)
        return list(dict.fromkeys((*found, *self._root.directories(tuple(nested)))))

    def names(self, directory: str) -> dict[str, bool]:
        """Names of shared libraries in a directory, with whether each is a symbolic link."""
        if directory not in self._names:
            self._names[directory] = {
                entry.name: entry.is_symlink()
                for entry in self._root.entries(directory)
                if entry.name.startswith("lib") and ".so" in entry.name
            }
        return self._names[directory]

    def versions(self) -> list[str]:
        """Versions of the driver that have libcuda or libnvidia-ml, newest first."""
        found = {
            match[1]
            for directory in self.directories
            for name in self.names(directory)
            if (match := _VERSIONED.fullmatch(name))
        }
        return sorted(found, key=lambda each: [int(part) for part in each.split(".")], reverse=True)

    def find(self, version: str) -> Findings:
        """All libraries of one version of the driver; what was passed over is in ``left``."""
        candidates = {path: self._library(path) for path in self._candidates(version)}
        libraries = {path: library for path, library in candidates.items() if library is not None}
        missing = self._close(version, libraries)
        unique = self._unique(self._with_names(libraries))
        return Findings(
            libraries=sorted(unique, key=lambda each: each.path),
            directories=sorted({parent(path) for path in libraries}),
            missing=missing,
        )

    def _candidates(self, version: str) -> list[str]:
        """Resolved paths of the files whose names say that they are the driver's."""
        found: dict[str, None] = {}
        for directory in self.directories:
            for name in self.names(directory):
                if self._is_driver_name(name, version):
                    path = self._resolve(f"{directory}/{name}")
                    # A link's own name says nothing: libnvidia-nvvm.so.4 may lead to a leftover.
                    if path is not None and self._is_driver_name(base_name(path), version):
                        found.setdefault(path)
        return list(found)

    def _is_driver_name(self, name: str, version: str) -> bool:
        stem, _, suffix = name.partition(".so")
        if stem in self._modules:  # loaded by the X server, from its own directories
            return False
        if suffix == "." + version:
            return True
        _, *numbers = suffix.split(".")
        return (
            stem in self._catalogue.unversioned
            and bool(numbers)
            and all(number.isdecimal() for number in numbers)
            and len(numbers[0]) < 3  # three digits: the version of another driver
        )

    def _resolve(self, path: str) -> str | None:
        try:
            return self._root.resolve(path)
        except OSError as error:
            self.left.append(Left(path=printable(path), reason=error.strerror or str(error)))
            return None

    def _library(self, path: str) -> Library | None:
        if not is_safe(path):
            self.left.append(Left(path=printable(path), reason="a file name unfit for a spec"))
            return None
        try:
            shared = elf.read(self._root.open_path(path))
        except (elf.ElfError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self.left.append(Left(path=path, reason=reason))
            return None
        name = base_name(path)
        soname = shared.soname if shared.soname and is_safe(shared.soname) else name
        return Library(
            path=HostPath(self._root.host_path(path)),
            bits=shared.bits,
            soname=soname,
            needed=shared.needed,
        )

    def _close(self, version: str, libraries: dict[str, Library]) -> list[Missing]:
        """Add what the driver's libraries need of the driver; answer what is nowhere."""
        missing = []
        known = {
            (each.bits, name) for path, each in libraries.items() for name in _names(path, each)
        }
        pending = list(libraries.values())
        while pending:
            library = pending.pop()
            for name in library.needed:
                if (library.bits, name) in known or not self._of_the_driver(name, version):
                    continue
                known.add((library.bits, name))
                found = self._needed(name, library.bits)
                if found is None:
                    missing.append(
                        Missing(name=name, reason=f"needed by {library.path}, and not found")
                    )
                    continue
                path, added = found
                libraries[path] = added
                pending.append(added)
        return missing

    def _of_the_driver(self, name: str, version: str) -> bool:
        stem, _, suffix = name.partition(".so")
        return suffix == "." + version or stem in self._catalogue.libraries

    def _needed(self, name: str, bits: int) -> tuple[str, Library] | None:
        places = [f"{directory}/{name}" for directory in self.directories]
        for place in (*places, *self._cache.get(name, ())):
            try:
                path = self._root.resolve(place)
            except OSError:
                continue
            library = self._library(path)
            if library is not None and library.bits == bits:
                return path, library
        return None

    def _with_names(self, libraries: dict[str, Library]) -> Iterable[Library]:
        """The libraries with the names of all links that lead to them."""
        stems = {base_name(path).partition(".so")[0] for path in libraries}
        homes = {parent(path) for path in libraries}
        links: dict[str, set[str]] = {}
        for directory in dict.fromkeys((*self.directories, *homes)):
            for name, is_link in self.names(directory).items():
                if not is_link or name.partition(".so")[0] not in stems or not is_safe(name):
                    continue
                try:
                    target = self._root.resolve(f"{directory}/{name}")
                except OSError:
                    continue
                if target in libraries:
                    links.setdefault(target, set()).add(f"{directory}/{name}")
        for path, library in libraries.items():
            home = parent(path)
            own = {each for each in links.get(path, ()) if parent(each) == home}
            yield replace(
                library,
                links=tuple(sorted(base_name(each) for each in own)),
                aliases=tuple(
                    sorted(each for each in links.get(path, set()) - own if is_safe(each))
                ),
            )

    def _unique(self, libraries: Iterable[Library]) -> Iterable[Library]:
        """One file for each name: of copies in two directories, the first found."""
        seen: dict[tuple[int, str], str] = {}
        for library in libraries:
            key = (library.bits, base_name(library.path))
            if key in seen:
                self.left.append(Left(path=library.path, reason=f"a copy of {seen[key]}"))
            else:
                seen[key] = library.path
                yield library


def _names(path: str, library: Library) -> tuple[str, str]:
    return base_name(path), library.soname
