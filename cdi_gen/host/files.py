# SPDX-License-Identifier: Apache-2.0
"""The driver's other files: programs, ICD and EGL files, X.Org modules, firmware, sockets."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator

from cdi_gen.catalogue import Catalogue, FileEntry
from cdi_gen.host.roots import Root
from cdi_gen.inventory import DriverFile, Left, Missing
from cdi_gen.paths import HostPath, beneath, is_safe, join, printable


class FileSearch:
    """Looks for the files that the catalogue lists, in the order of its directories."""

    def __init__(
        self,
        root: Root,
        host: Root,
        catalogue: Catalogue,
        *,
        library_directories: list[str],
        config_search_path: tuple[str, ...] = (),
        version: str,
        architecture: str,
        kernel_release: str,
    ) -> None:
        self._root = root
        self._host = host
        self._catalogue = catalogue
        self._fill = {"version": version, "architecture": architecture, "release": kernel_release}
        self.left: list[Left] = []
        directories = catalogue.directories
        xorg = [
            each.format(library=library.strip("/"))
            for each in directories["xorg"]
            for library in (library_directories if "{library}" in each else [""])
        ]
        data = config_search_path or directories["data"]
        self._directories = {
            "program": self._resolved(directories["program"]),
            "data": self._resolved(tuple(each.strip("/") for each in data)),
            "xorg": self._resolved(tuple(xorg)),
        }

    def _resolved(self, patterns: tuple[str, ...]) -> list[tuple[str, str]]:
        """(directory as named, directory resolved), each resolved one once."""
        found: dict[str, str] = {}
        for pattern in patterns:
            for resolved in self._root.directories((pattern,)):
                named = resolved if pattern.endswith("*") else "/" + pattern
                found.setdefault(resolved, named)
        return [(named, resolved) for resolved, named in found.items()]

    def find(self) -> list[DriverFile]:
        """Every catalogued file that is there, in the catalogue's order."""
        found: list[DriverFile] = []
        for entry in self._catalogue.files:
            if entry.kind == "firmware":
                found += self._firmware(entry)
            elif entry.kind == "socket":
                found += self._socket(entry)
            else:
                found += self._first(entry)
        return found

    def _first(self, entry: FileEntry) -> Iterator[DriverFile]:
        name = entry.name.format_map(self._fill)
        for named, resolved in self._directories[entry.kind]:
            path = self._regular(join(resolved, name))
            if path is not None and (entry.kind != "program" or self._is_program(path)):
                yield DriverFile(
                    path=HostPath(self._root.host_path(path)),
                    seen_at=join(named, name),
                    entry=entry.name,
                )
                return

    def _firmware(self, entry: FileEntry) -> Iterator[DriverFile]:
        for directory in self._firmware_directories():
            names = sorted(
                each.name
                for each in self._root.entries(directory)
                if fnmatch.fnmatchcase(each.name, entry.name)
            )
            for name in names:
                path = self._regular(join(directory, name))
                if path is not None:
                    yield DriverFile(
                        path=HostPath(self._root.host_path(path)),
                        seen_at=join("/lib/firmware/nvidia", self._fill["version"], name),
                        entry=entry.name,
                    )
            if names:
                return

    def _firmware_directories(self) -> Iterator[str]:
        """Where the kernel looks (firmware_class; Documentation/driver-api/firmware)."""
        patterns = [each.format_map(self._fill) for each in self._catalogue.directories["firmware"]]
        try:
            custom = self._host.read_text("/sys/module/firmware_class/parameters/path").strip()
        except OSError:
            custom = ""
        # The kernel's path is the host's; it is of use here where it leads into the driver root.
        inside = beneath(custom, self._root.name) if custom else None
        if inside:
            patterns.insert(0, inside.strip("/"))
        version = self._fill["version"]
        return self._root.directories(tuple(f"{each}/nvidia/{version}" for each in patterns))

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

    def _regular(self, named: str) -> str | None:
        """The resolved path of a regular file whose name may enter a spec."""
        try:
            path = self._root.resolve(named)
            mode = os.lstat(self._root.open_path(path)).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if stat.S_ISREG(mode) and is_safe(path):
                return path
            regular = stat.S_ISREG(mode)
            reason = "a file name unfit for a spec" if regular else "not a regular file"
        self.left.append(Left(path=printable(named), reason=reason))
        return None

    def _is_program(self, path: str) -> bool:
        """A program of the driver is ELF; hosts put scripts of the same name before it in PATH."""
        opened = self._root.open_path(path)
        if not os.lstat(opened).st_mode & 0o111:
            return False
        with open(opened, "rb") as file:
            if file.read(4) == b"\x7fELF":
                return True
        self.left.append(Left(path=path, reason="a script, not the driver's own program"))
        return False


def incomplete(
    catalogue: Catalogue, found: list[DriverFile], libraries: frozenset[str]
) -> Iterator[Missing]:
    """Files whose library is installed and which are not: Vulkan's ICD without the JSON file."""
    present = {each.entry for each in found}
    for entry in catalogue.files:
        if entry.companion in libraries and not present & {entry.name, entry.alternative}:
            yield Missing(
                name=entry.name, reason=f"{entry.companion} is installed, this file of it is not"
            )
