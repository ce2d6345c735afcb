# SPDX-License-Identifier: Apache-2.0
"""The driver's other files: programs, ICD and EGL files, X.Org modules, firmware, sockets."""

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
"""The catalogue has their directories."""


class FileSearch:
    """Looks for the files that the catalogue lists, in the order of its directories.

    Args:
        root: the driver root.
        host: where sockets of daemons are.
        catalogue: what to look for, and where.
        library_directories: where the driver's libraries were found, resolved in the root.
        config_search_path: in place of the catalogue's directories for data.
        belonging: tells the files of another driver version.
        fill: values of ``{architecture}``, ``{version}`` and ``{release}``.
        firmware_path: the kernel's own, as `places.firmware_path` answers it.
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
            each.strip("/") for each in library_directories if base_name(each) not in subdirectories
        ]
        self._prefixes = _prefixes(self._libraries)
        data = tuple(each.strip("/") for each in config_search_path)
        self._directories = {
            "program": self._resolved(self._filled(catalogue.directories["program"])),
            "data": self._resolved(data or self._filled(catalogue.directories["data"])),
            "xorg": self._resolved(self._filled(catalogue.directories["xorg"])),
        }
        self._firmware_directories = self._filled(
            f"{each}/nvidia/{{version}}" for each in catalogue.directories["firmware"]
        )
        if firmware_path:
            self._firmware_directories = (
                f"{firmware_path.strip('/')}/nvidia/{fill['version']}",
                *self._firmware_directories,
            )

    def _filled(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Patterns of directories, with values in the place of the words in braces.

        ``{library}`` stands for each directory with a library of the driver, ``{prefix}`` for each
        that a driver with libraries there may have been installed to.
        """
        several = {"{library}": self._libraries, "{prefix}": self._prefixes}
        found: list[str] = []
        for pattern in patterns:
            word = next((each for each in several if each in pattern), None)
            found += [
                pattern.format(library=value, prefix=value, **self._fill)
                for value in (several[word] if word else [""])
            ]
        return tuple(found)

    def _resolved(self, patterns: tuple[str, ...]) -> list[tuple[str, str]]:
        """(directory as named, directory resolved), each resolved one once."""
        found: dict[str, str] = {}
        for pattern in patterns:
            for resolved in self._root.directories((pattern,)):
                named = resolved if "*" in pattern else "/" + pattern
                found.setdefault(resolved, named)
        return [(named, resolved) for resolved, named in found.items()]

    def find(self) -> SearchResult[list[DriverFile]]:
        """Every catalogued file of the host, in the catalogue's order."""
        found = [item for entry in self._catalogue.files for item in self._entry(entry)]
        return SearchResult(
            [item for item in found if isinstance(item, DriverFile)],
            tuple(item for item in found if isinstance(item, Ignored)),
        )

    def _entry(self, entry: FileEntry) -> Iterator[DriverFile | Ignored]:
        """The files of an entry, and what looks like one and is left out."""
        if entry.kind == "firmware":
            return self._firmware(entry)
        if entry.kind == "socket":
            return self._socket(entry)
        return self._first(entry)

    def _first(self, entry: FileEntry) -> Iterator[DriverFile | Ignored]:
        for named, resolved, name in self._places(entry):
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
            other = self._belonging.other(path)
            if other:
                yield Ignored(path=path, reason=f"of the driver {other}", code="CDG-H402")
                continue
            yield DriverFile(
                path=HostPath(self._root.host_path(path)),
                seen_at=join(named, name),
                entry=entry.name,
            )
            return

    def _places(self, entry: FileEntry) -> Iterator[tuple[str, str, str]]:
        """(directory as named, directory resolved, name) of each place where a file may be."""
        name = entry.name.format_map(self._fill)
        for named, resolved in self._directories[entry.kind]:
            yield named, resolved, name
        if self._belonging.several:
            # What Debian's alternatives choose among lies beside the libraries of each driver.
            for library in self._libraries:
                yield f"/{library}", f"/{library}", base_name(name)

    def _firmware(self, entry: FileEntry) -> Iterator[DriverFile | Ignored]:
        """All that is in the driver's own folder, of the first directory that has one."""
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
        """Names of files relative to a directory, sorted; links to directories are not followed."""
        found = []
        for entry in self._root.entries(directory):
            if not entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
            elif depth < MAX_FIRMWARE_DEPTH:
                below = self._names_below(f"{directory}/{entry.name}", depth + 1)
                found += [f"{entry.name}/{name}" for name in below]
        return sorted(found)

    def _socket(self, entry: FileEntry) -> Iterator[DriverFile]:
        """A socket, or the pipe directory of MPS, of a daemon that runs on the host."""
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
        """The resolved path of a regular file whose name may enter a spec; None: no file."""
        try:
            path = self._root.resolve(named)
            mode = os.lstat(self._root.open_path(path)).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            reason, code = error.strerror or str(error), "CDG-H403"
        else:
            if stat.S_ISREG(mode) and is_safe(path):
                return path
            if stat.S_ISREG(mode):
                reason, code = "a file name unfit for a spec", "CDG-H404"
            else:
                reason, code = "not a regular file", "CDG-H408"
        return Ignored(path=printable(named), reason=reason, code=code)


def _prefixes(libraries: Iterable[str]) -> list[str]:
    """``opt/nvidia`` of ``opt/nvidia/lib64``, and of ``opt/nvidia/usr/lib64``."""
    above = [parent(join(each)) for each in libraries]
    found = dict.fromkeys((*above, *map(parent, above)))
    return [each.strip("/") for each in found if each not in USUAL_PREFIXES]


def incomplete(
    catalogue: Catalogue, found: list[DriverFile], libraries: frozenset[str]
) -> Iterator[Missing]:
    """Files whose library is installed and which are not: Vulkan's ICD without the JSON file."""
    present = {each.entry for each in found}
    for entry in catalogue.files:
        if entry.companion in libraries and not present & {entry.name, entry.alternative}:
            yield Missing(
                name=entry.name,
                reason=f"{entry.companion} is installed, this file of it is not",
                code="CDG-H204",
            )
