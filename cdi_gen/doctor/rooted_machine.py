# SPDX-License-Identifier: Apache-2.0
"""Engines of a host that is seen in a directory: their files are read, no program is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from cdi_base import nvidia
from cdi_gen.engines.machine import USUAL_DIRECTORIES, Machine, printed_version
from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_gen.paths import join

MAX_BYTES = 1 << 20
PACKAGES = {
    "podman": ("podman",),
    "buildah": ("buildah",),
    "dockerd": ("docker-ce", "docker.io", "moby-engine"),
    "containerd": ("containerd.io", "containerd"),
    "crio": ("cri-o",),
    "nerdctl": ("nerdctl",),
    nvidia.HOOK: ("nvidia-container-toolkit-base",),
    nvidia.CTK: ("nvidia-container-toolkit-base",),
}
"""The packages of a program in Debian and Ubuntu."""
PACKAGE_DATABASE = "/var/lib/dpkg/status"
DATABASE_BYTES = 32 << 20


class RootedMachine(Machine):
    """The files of another root directory."""

    def __init__(self, root: Root) -> None:
        super().__init__()
        self._root = root
        self._versions: dict[str, str] | None = None

    def program(self, name: str) -> str | None:
        """The path of a program in the usual directories."""
        return self.find_program(name, USUAL_DIRECTORIES)

    def find_program(self, name: str, directories: Iterable[str]) -> str | None:
        """The first program of a name in these directories."""
        paths = (join(directory, name) for directory in directories)
        return next((path for path in paths if self._is_program(path)), None)

    def _is_program(self, path: str) -> bool:
        try:
            opened = self._root.open_path(self._root.resolve(path))
        except OSError:
            return False
        return os.path.isfile(opened) and os.stat(opened).st_mode & 0o111 != 0

    def exists(self, path: str) -> bool:
        """Whether anything is at a path."""
        return self._root.exists(path)

    def newest_program(self, patterns: Iterable[str]) -> str | None:
        """The first program that a pattern leads to."""
        paths = (path for pattern in patterns for path in self._root.expand(pattern))
        return next(filter(self._is_program, paths), None)

    def trusts(self, program: str) -> bool:  # noqa: ARG002
        """No program of another root is run."""
        return False

    def processes(self, program: str) -> Iterator[tuple[str, tuple[str, ...]]]:  # noqa: ARG002
        """No process has the root."""
        return iter(())

    def output(self, *command: str) -> str | None:  # noqa: ARG002
        """No program is run."""
        return None

    def version(self, program: str | None) -> str | None:
        """The version of the program's package, where dpkg has installed it."""
        return self.package_version(program.rpartition("/")[2]) if program else None

    def package_version(self, program: str) -> str | None:
        """The version of the package that brings a program of this name."""
        if self._versions is None:
            self._versions = self._package_versions()
        names = PACKAGES.get(program, ())
        return next((self._versions[name] for name in names if name in self._versions), None)

    def _package_versions(self) -> dict[str, str]:
        names = {name for names in PACKAGES.values() for name in names}
        try:
            text = self._root.read_text(PACKAGE_DATABASE, DATABASE_BYTES)
        except OSError:
            return {}
        versions = {}
        for paragraph in text.split("\n\n"):
            match = re.match(r"Package: ([^\n]+)", paragraph)
            if match and match[1] in names and "\nStatus: install ok installed" in paragraph:
                field = re.search(r"\nVersion: (?:\d+:)?([^\n]+)", paragraph)
                version = printed_version(field[1]) if field else None
                if version:
                    versions[match[1]] = version
        return versions

    def text(self, path: str) -> str | None:
        """The text of a configuration file; None if the file does not exist.

        Raises:
            CdiGenError: the file cannot be read.
        """
        try:
            return self._root.read_bytes(path, MAX_BYTES).decode("utf-8")
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise CdiGenError(f"{path}: {reason}", code="CDG-E001", subject=path) from error

    def files(self, directory: str, suffix: str = "") -> tuple[str, ...]:
        """The paths of the files in a directory whose names have this suffix, sorted by name."""
        try:
            entries = self._root.entries(self._root.resolve(directory))
        except OSError:
            return ()
        names = sorted(entry.name for entry in entries if entry.name.endswith(suffix))
        return tuple(join(directory, name) for name in names)
