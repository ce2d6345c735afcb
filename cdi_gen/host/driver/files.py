# SPDX-License-Identifier: Apache-2.0
"""Finds the driver's programs, ICD and EGL files, X.Org modules, firmware and sockets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from cdi_gen.catalogue import Catalogue, FileEntry
from cdi_gen.host.driver import shared_library
from cdi_gen.host.driver.installations import Belonging
from cdi_gen.host.result import SearchResult
from cdi_gen.host.roots import Root
from cdi_gen.inventory import DriverFile, Ignored, Missing
from cdi_gen.paths import HostPath, base_name, is_safe, join, parent, printable

MAX_FIRMWARE_DEPTH = 3
USUAL_PREFIXES = ("/", "/usr", "/usr/lib", "/usr/local")
"""Prefixes whose directories the catalogue lists."""


class FileSearch:
    """Searches for the files that the catalogue lists, in the order of its directories.

    Args:
        root: the driver root.
        host: the root with the sockets of daemons.
        catalogue: the files and directories to search.
        library_directories: the directories of the driver's libraries, resolved in the root.
        config_search_path: directories for data instead of the catalogue's.
        belonging: identifies the files of another driver version.
        fill: values of ``{architecture}``, ``{version}`` and ``{release}``.
        firmware_path: the kernel's firmware path, from `places.firmware_path`.
    """

    def __init__(
        self,
        root: Root,
        host: Root,
        catalogue: Catalogue,
        *,
        library_directories: list[str],
        config_search_path: tuple[str, ...] = (),
        belonging: Belonging,
        fill: dict[str, str],
        firmware_path: str = "",
    ) -> None:
        self._root = root
        self._host = host
        self._catalogue = catalogue
        self._belonging = belonging
        self._fill = fill
        subdirectories = catalogue.directories["library_sub"]
        self._libraries = [
            directory.strip("/")
            for directory in library_directories
            if base_name(directory) not in subdirectories
        ]
        self._prefixes = _prefixes(self._libraries)
        data = tuple(directory.strip("/") for directory in config_search_path)
        self._directories = {
            "program": self._resolved(self._filled(catalogue.directories["program"])),
            "data": self._resolved(data or self._filled(catalogue.directories["data"])),
            "xorg": self._resolved(self._filled(catalogue.directories["xorg"])),
        }
        self._firmware_directories = self._filled(
            f"{directory}/nvidia/{{version}}" for directory in catalogue.directories["firmware"]
        )
        if firmware_path:
            self._firmware_directories = (
                f"{firmware_path.strip('/')}/nvidia/{fill['version']}",
                *self._firmware_directories,
            )

    def _filled(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Return patterns of directories with values for the words in braces.

        ``{library}`` is each directory with a library of the driver, ``{prefix}`` each prefix to
        which a driver with these directories may be installed.
        """
        several = {"{library}": self._libraries, "{prefix}": self._prefixes}
        directories: list[str] = []
        for pattern in patterns:
            word = next((word for word in several if word in pattern), None)
            directories += [
                pattern.format(library=value, prefix=value, **self._fill)
                for value in (several[word] if word else [""])
            ]
        return tuple(directories)

    def _resolved(self, patterns: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return (directory as named, directory resolved), each resolved directory once."""
        names: dict[str, str] = {}
        for pattern in patterns:
            for resolved in self._root.directories((pattern,)):
                named = resolved if "*" in pattern else "/" + pattern
                names.setdefault(resolved, named)
        return [(named, resolved) for resolved, named in names.items()]

    def find(self) -> SearchResult[list[DriverFile]]:
        """Return every catalogued file of the host, in the catalogue's order."""
        items = [item for entry in self._catalogue.files for item in self._entry(entry)]
        return SearchResult(
            [item for item in items if isinstance(item, DriverFile)],
            tuple(item for item in items if isinstance(item, Ignored)),
        )

    def _entry(self, entry: FileEntry) -> Iterator[DriverFile | Ignored]:
        """Yield the files of an entry, and files that look like one and are ignored."""
        if entry.kind == "firmware":
            return self._firmware(entry)
        if entry.kind == "socket":
            return self._socket(entry)
        return self._first(entry)

    def _first(self, entry: FileEntry) -> Iterator[DriverFile | Ignored]:
        for named, resolved, name in self._candidates(entry):
            path = self._regular(join(resolved, name))
            if isinstance(path, Ignored):
                yield path
            if path is None or isinstance(path, Ignored):
                continue
            if entry.kind == "program":
                opened = self._root.open_path(path)
                if not os.lstat(opened).st_mode & 0o111:
                    continue
                if not shared_library.is_elf(opened):
                    # Hosts put scripts of the same name before the driver's program in PATH.
                    reason = "a script, not the driver's own program"
                    yield Ignored(path=path, reason=reason, code="CDG-H409")
                    continue
            other_version = self._belonging.other_version(path)
            if other_version:
                reason = f"belongs to driver {other_version}"
                yield Ignored(path=path, reason=reason, code="CDG-H402")
                continue
            yield DriverFile(
                path=HostPath(self._root.host_path(path)),
                seen_at=join(named, name),
                entry=entry.name,
            )
            return

    def _candidates(self, entry: FileEntry) -> Iterator[tuple[str, str, str]]:
        """Yield (directory as named, directory resolved, name) of each possible path."""
        name = entry.name.format_map(self._fill)
        for named, resolved in self._directories[entry.kind]:
            yield named, resolved, name
        if self._belonging.has_other_versions:
            # Debian's alternatives are in the directory of the libraries of each driver.
            for library in self._libraries:
                yield f"/{library}", f"/{library}", base_name(name)

    def _firmware(self, entry: FileEntry) -> Iterator[DriverFile | Ignored]:
        """Yield all files of the first directory that has firmware of this driver version."""
        for directory in self._root.directories(self._firmware_directories):
            names = self._names_below(directory)
            for name in names:
                path = self._regular(join(directory, name))
                if isinstance(path, Ignored):
                    yield path
                elif path is not None:
                    yield DriverFile(
                        path=HostPath(self._root.host_path(path)),
                        seen_at=join("/lib/firmware/nvidia", self._fill["version"], name),
                        entry=entry.name,
                    )
            if names:
                return

    def _names_below(self, directory: str, depth: int = 0) -> list[str]:
        """Return sorted file names relative to a directory; directory links are not followed."""
        names = []
        for entry in self._root.entries(directory):
            if not entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            elif depth < MAX_FIRMWARE_DEPTH:
                below = self._names_below(f"{directory}/{entry.name}", depth + 1)
                names += [f"{entry.name}/{name}" for name in below]
        return sorted(names)

    def _socket(self, entry: FileEntry) -> Iterator[DriverFile]:
        """Yield a socket, or the pipe directory of MPS, of a daemon that runs on the host."""
        for root in dict.fromkeys((self._root, self._host)):
            for directory in entry.under:
                named = join(directory, entry.name)
                try:
                    path = root.resolve(named)
                    mode = os.lstat(root.open_path(path)).st_mode
                except OSError:
                    continue
                if stat.S_ISSOCK(mode) or (stat.S_ISDIR(mode) and "/" not in entry.name):
                    yield DriverFile(
                        path=HostPath(root.host_path(path)), seen_at=named, entry=entry.name
                    )
                    return

    def _regular(self, named: str) -> str | Ignored | None:
        """Return the resolved path of a regular file, why it is ignored, or None if missing.

        A spec has both paths: the file is mounted from one to the other. The path as named may be a
        link with a hostile name to a file with a safe one.
        """
        try:
            path = self._root.resolve(named)
            mode = os.lstat(self._root.open_path(path)).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            reason, code = error.strerror or str(error), "CDG-H403"
        else:
            if stat.S_ISREG(mode) and is_safe(path) and is_safe(named):
                return path
            if stat.S_ISREG(mode):
                reason, code = "a file name that cannot be used in a spec", "CDG-H404"
            else:
                reason, code = "not a regular file", "CDG-H408"
        return Ignored(path=printable(named), reason=reason, code=code)


def _prefixes(libraries: Iterable[str]) -> list[str]:
    """Return ``opt/nvidia`` for ``opt/nvidia/lib64`` and for ``opt/nvidia/usr/lib64``."""
    parents = [parent(join(directory)) for directory in libraries]
    prefixes = dict.fromkeys((*parents, *map(parent, parents)))
    return [prefix.strip("/") for prefix in prefixes if prefix not in USUAL_PREFIXES]


def incomplete(
    catalogue: Catalogue, driver_files: list[DriverFile], libraries: frozenset[str]
) -> Iterator[Missing]:
    """Yield missing files of installed libraries: the JSON file of Vulkan's ICD, for example."""
    present = {file.entry for file in driver_files}
    for entry in catalogue.files:
        if entry.companion in libraries and not present & {entry.name, entry.alternative}:
            yield Missing(
                name=entry.name,
                reason=f"{entry.companion} is installed without this file",
                code="CDG-H204",
            )
