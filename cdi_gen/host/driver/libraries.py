# SPDX-License-Identifier: Apache-2.0
"""The driver's shared libraries: by the version in their names, closed over what they need.

A library belongs to the driver when its file name ends in the driver's version, or when the
catalogue lists it as one that does not carry the version and it is no other version's. Where it
lies is of no importance: the usual directories and those that ``ld.so.cache`` names are all
searched, and DT_NEEDED brings in the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from cdi_base import ld_so_cache
from cdi_base.elf import ElfError
from cdi_gen.catalogue import Catalogue
from cdi_gen.host.driver import shared_library
from cdi_gen.host.driver.installations import VERSION, Belonging
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Left, Library, Missing
from cdi_gen.paths import HostPath, base_name, is_safe, parent, printable

TRIPLETS = {
    "x86_64": ("x86_64-linux-gnu", "i386-linux-gnu"),
    "aarch64": ("aarch64-linux-gnu", "arm-linux-gnueabihf"),
    "ppc64le": ("powerpc64le-linux-gnu", "powerpc-linux-gnu"),
}
"""Of the directories for 64-bit and 32-bit libraries, by the architecture."""
_VERSIONED = re.compile(rf"lib(?:cuda|nvidia-ml)\.so\.({VERSION})", re.ASCII)
_NVIDIA = re.compile(r"lib(?:cuda|nvidia|nvcuvid|nvoptix|\w+_nvidia)", re.ASCII)
FORWARD_COMPATIBILITY = "compat"
"""Of a CUDA toolkit: it has the libcuda of a driver, and no driver."""
MAX_CACHE_BYTES = 16 << 20
MAX_OTHER_VERSIONS = 64
"""Of which files are told apart from the loaded version's: each is looked for in their content."""


class Findings(NamedTuple):
    """The driver's libraries in one root."""

    libraries: list[Library]
    directories: list[str]
    """Directories, resolved in the root, in which a library of the driver lies."""
    missing: list[Missing]
    belonging: Belonging


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
        self._machines = shared_library.MACHINES.get(architecture)
        self._names: dict[str, dict[str, bool]] = {}
        self.foreign: set[str] = set()
        """Architectures of libraries that were left out because they are not this host's."""
        self._modules = {
            each.name.partition(".so")[0] for each in catalogue.files if each.kind == "xorg"
        }
        self.left: list[Left] = []
        self._versions: list[str] | None = None
        self._cache = {} if search_path else self._read_cache()
        self.directories = self._search_directories(architecture, search_path)

    def _read_cache(self) -> dict[str, tuple[str, ...]]:
        """Paths by library name (``libcuda.so.1``), in the cache's order of preference."""
        paths: dict[str, list[str]] = {}
        try:
            content = self._root.read_bytes("/etc/ld.so.cache", MAX_CACHE_BYTES)
            for _, name, path, _ in ld_so_cache.entries_of(content):
                paths.setdefault(_text(name), []).append(_text(path))
        except OSError:
            return {}
        except ld_so_cache.CacheError as error:
            self.left.append(
                Left(path="/etc/ld.so.cache", reason=f"damaged: {error}", code="CDG-H401")
            )
            return {}
        return {name: tuple(several) for name, several in paths.items()}

    def _search_directories(self, architecture: str, search_path: tuple[str, ...]) -> list[str]:
        if search_path:
            patterns = tuple(each.strip("/") for each in search_path)
        else:
            native, compat = TRIPLETS.get(architecture, (architecture, architecture))
            patterns = tuple(
                each.format(triplet=native, triplet32=compat)
                for each in self._catalogue.directories["library"]
                if each or self._root.name != "/"
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
        found = list(self._root.directories(patterns))
        subdirectories = self._catalogue.directories["library_sub"]
        nested = (f"{each.strip('/')}/{name}" for each in found for name in subdirectories)
        return list(dict.fromkeys((*found, *self._root.directories(tuple(nested)))))

    def widen(self, version: str, sources: Iterable[Callable[[], Iterator[str]]]) -> None:
        """Search other directories too, of the first source that knows where a version is."""
        for source in sources:
            patterns = tuple(each.strip("/") for each in source())
            found = [
                each
                for each in self._with_subdirectories(tuple(dict.fromkeys(patterns)))
                if each not in self.directories and base_name(each) != FORWARD_COMPATIBILITY
            ]
            if any(f".so.{version}" in name for each in found for name in self.names(each)):
                self.directories += found
                self._versions = None
                return

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
        if self._versions is None:
            found = {
                match[1]
                for directory in self.directories
                for name in self.names(directory)
                if (match := _VERSIONED.fullmatch(name))
            }
            self._versions = sorted(found, key=_in_order, reverse=True)
        return self._versions

    def find(self, version: str) -> Findings:
        """All libraries of one version of the driver; what was passed over is in ``left``."""
        others = tuple(each for each in self.versions() if each != version)[:MAX_OTHER_VERSIONS]
        belonging = Belonging(self._root, version, others)
        candidates = {path: self._library(path) for path in self._candidates(version)}
        libraries = {
            path: library
            for path, library in candidates.items()
            if library is not None and self._is_of(path, belonging)
        }
        missing = self._close(version, libraries, belonging)
        directories = sorted({parent(path) for path in libraries})
        libraries = self._one_of_each(libraries, version)
        return Findings(
            libraries=sorted(self._with_names(libraries), key=lambda each: each.path),
            directories=directories,
            missing=missing,
            belonging=belonging,
        )

    def _is_of(self, path: str, belonging: Belonging) -> bool:
        other = belonging.other(path)
        if other:
            self.left.append(Left(path=path, reason=f"of the driver {other}", code="CDG-H402"))
        return other is None

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
            self.left.append(
                Left(path=printable(path), reason=error.strerror or str(error), code="CDG-H403")
            )
            return None

    def _library(self, path: str) -> Library | None:
        if not is_safe(path):
            self.left.append(
                Left(path=printable(path), reason="a file name unfit for a spec", code="CDG-H404")
            )
            return None
        try:
            shared = shared_library.read(self._root.open_path(path))
        except (ElfError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self.left.append(Left(path=path, reason=reason, code="CDG-H405"))
            return None
        if self._machines and shared.machine not in self._machines:
            self.foreign.add(shared.architecture)
            self.left.append(Left(path=path, reason=f"for {shared.architecture}", code="CDG-H406"))
            return None
        name = base_name(path)
        soname = shared.soname if shared.soname and is_safe(shared.soname) else name
        return Library(
            path=HostPath(self._root.host_path(path)),
            bits=shared.bits,
            soname=soname,
            needed=shared.needed,
        )

    def _close(
        self, version: str, libraries: dict[str, Library], belonging: Belonging
    ) -> list[Missing]:
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
                found = self._needed(name, library.bits, belonging)
                if found is None:
                    missing.append(
                        Missing(
                            name=name,
                            reason=f"needed by {library.path}, and not found",
                            code="CDG-H203",
                        )
                    )
                    continue
                path, added = found
                libraries[path] = added
                pending.append(added)
        return missing

    def _of_the_driver(self, name: str, version: str) -> bool:
        stem, _, suffix = name.partition(".so")
        return suffix == "." + version or stem in self._catalogue.libraries

    def _needed(self, name: str, bits: int, belonging: Belonging) -> tuple[str, Library] | None:
        places = [f"{directory}/{name}" for directory in self.directories]
        for place in (*places, *self._cache.get(name, ())):
            try:
                path = self._root.resolve(place)
            except OSError:
                continue
            library = self._library(path)
            if library is not None and library.bits == bits and belonging.other(path) is None:
                return path, library
        return None

    def _with_names(self, libraries: dict[str, Library]) -> Iterable[Library]:
        """The libraries with the names of all links that lead to them."""
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
                    # To another version of the library: in a container there is this one alone.
                    target = homes.get((directory, stem), "")
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

    def _one_of_each(self, libraries: dict[str, Library], version: str) -> dict[str, Library]:
        """One file for each name by which programs load it; the loader would take one, too."""
        named: dict[tuple[int, str, str], list[str]] = {}
        for path, library in libraries.items():
            stem = base_name(path).partition(".so")[0]
            named.setdefault((library.bits, stem, library.soname), []).append(path)
        chosen: dict[str, Library] = {}
        for (_, _, soname), paths in named.items():
            first = paths[0] if len(paths) == 1 else self._preferred(paths, soname, version)
            chosen[first] = libraries[first]
            self._leave(first, (each for each in paths if each != first), libraries)
        return {path: library for path, library in libraries.items() if path in chosen}

    def _preferred(self, paths: list[str], soname: str, version: str) -> str:
        """Of the files of one name: the driver's own, the one that the host uses, the newest."""
        versioned = [each for each in paths if each.endswith(f".so.{version}")]
        if versioned:
            return versioned[0]
        places = [f"{directory}/{soname}" for directory in self.directories]
        for place in (*self._cache.get(soname, ()), *places):
            try:
                target = self._root.resolve(place)
            except OSError:
                continue
            if target in paths:
                return target
        newest = max(map(_numbers, paths))
        return next(each for each in paths if _numbers(each) == newest)

    def _leave(self, chosen: str, others: Iterable[str], libraries: dict[str, Library]) -> None:
        for path in others:
            same = base_name(path) == base_name(chosen)
            what = "a copy of" if same else "the host uses, under the same name,"
            self.left.append(
                Left(
                    path=libraries[path].path,
                    reason=f"{what} {libraries[chosen].path}",
                    code="CDG-H407",
                )
            )


def _text(name: bytes) -> str:
    return name.decode("ascii", errors="surrogateescape")


def _in_order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _names(path: str, library: Library) -> tuple[str, str]:
    return base_name(path), library.soname


def _numbers(path: str) -> tuple[int, ...]:
    """The numbers in a library's file name, in whose order ldconfig prefers libraries."""
    return tuple(int(each) for each in base_name(path).split(".") if each.isdecimal())
