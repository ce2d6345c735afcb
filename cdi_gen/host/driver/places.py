# SPDX-License-Identifier: Apache-2.0
"""Finds the directories of a driver that is not installed in a usual directory.

The search runs only if neither the catalogue's directories nor those of the loader's cache have the
libraries of the loaded module. The sources, in this order: the loader's configuration, the kernel's
firmware path, the module's file, the driver's programs, the lists of package managers, and a walk
through the directories that administrators and immutable distributions use.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator

from cdi_base.elf import ElfError
from cdi_gen.host.driver import shared_library
from cdi_gen.host.roots import Root
from cdi_gen.paths import base_name, beneath, is_safe, join, parent

LIBRARY_DIRECTORIES = ("lib64", "lib", "usr/lib64", "usr/lib", "lib/{triplet}", "")
"""Library directories below the prefix of a driver installation."""

MAX_CONFIGURATION_FILES = 256
MAX_LIST_BYTES = 8 << 20
MAX_LISTS = 512
MAX_PATH = 4096
IMAGE_STORES = frozenset({"overlay", "overlay2", "snapshots", "vfs", "aufs", "fuse-overlayfs"})
"""Directories of engines' data, perhaps in /opt: the images in them may have a driver."""
MAX_DEPTH = 6
MAX_DIRECTORIES = 20_000


class Places:
    """Finds directories of a root that may have the libraries of one driver version.

    Args:
        root: the driver root.
        version: the loaded module's version.
        triplet: the triplet in library directories of the architecture.
        firmware_path: the kernel's ``firmware_class.path``, as a path of the root; may be empty.
        kernel_release: the release whose modules to search.
    """

    def __init__(
        self, root: Root, *, version: str, triplet: str, firmware_path: str, kernel_release: str
    ) -> None:
        self._root = root
        self._version = version
        self._triplet = triplet
        self._firmware_path = firmware_path
        self._release = kernel_release

    def sources(
        self, programs: tuple[str, ...], walked: tuple[str, ...]
    ) -> Iterator[Callable[[], Iterator[str]]]:
        """Yield each source of directories. A later source is for hosts where earlier ones fail.

        Args:
            programs: patterns of directories with the driver's programs.
            walked: patterns of directories to walk through at the end.
        """
        yield self._of_the_loader
        yield self._of_the_module
        yield lambda: self._of_programs(programs)
        yield self._of_packages
        yield lambda: self._walk(walked)

    def _below(self, prefix: str) -> Iterator[str]:
        """Yield the library directories of a prefix, ``/usr/local/nvidia``."""
        if prefix.strip("/"):
            for name in LIBRARY_DIRECTORIES:
                yield f"{prefix}/{name.format(triplet=self._triplet)}"

    def _of_the_loader(self) -> Iterator[str]:
        """Yield the directories of ld.so.conf: a read-only image may have no cache."""
        files, patterns = ["/etc/ld.so.conf"], set[str]()
        for file in files:  # it grows while it is read
            for line in self._text(file).splitlines():
                words = line.partition("#")[0].replace(",", " ").replace(":", " ").split()
                if words[:1] != ["include"]:
                    yield from (word.partition("=")[0] for word in words if word.startswith("/"))
                    continue
                for pattern in words[1:]:
                    if pattern not in patterns and len(patterns) < MAX_CONFIGURATION_FILES:
                        patterns.add(pattern)
                        included = dict.fromkeys(self._included(pattern))
                        files += [path for path in included if path not in files]
                        del files[MAX_CONFIGURATION_FILES:]

    def _included(self, pattern: str) -> list[str]:
        return self._root.expand(pattern if pattern.startswith("/") else f"/etc/{pattern}")

    def _of_the_module(self) -> Iterator[str]:
        """Yield directories of the prefixes above the module's firmware and above its file."""
        yield from self._below(parent(self._firmware_path) if self._firmware_path else "/")
        for base in ("/lib/modules", "/run/booted-system/kernel-modules/lib/modules"):
            directory = f"{base}/{self._release}"
            for line in self._text(f"{directory}/modules.dep", MAX_LIST_BYTES).splitlines():
                name = line.partition(":")[0]
                if base_name(name).partition(".")[0] != "nvidia":
                    continue
                path = self._resolved(name if name.startswith("/") else f"{directory}/{name}")
                while path and not path.startswith(("/usr/lib/modules/", "/lib/modules/")):
                    path = "" if parent(path) in ("/", "/usr") else parent(path)
                    yield from self._below(path)

    def _of_programs(self, patterns: tuple[str, ...]) -> Iterator[str]:
        """Yield the directories of the programs' prefixes, and those that their loader searches."""
        fixed = tuple(pattern for pattern in patterns if "{" not in pattern)  # no unknown version
        for directory in self._root.directories(fixed):
            for name in ("nvidia-smi", "nvidia-persistenced", "nvidia-modprobe"):
                path = self._resolved(f"{directory}/{name}")
                if path is None:
                    continue
                # Wrapper scripts and statically linked programs have no search path.
                with contextlib.suppress(ElfError, OSError):
                    yield from shared_library.search_path(self._root.open_path(path))
                prefix = parent(parent(path))
                if prefix not in ("/", "/usr", "/usr/local"):
                    yield from self._below(prefix)

    def _of_packages(self) -> Iterator[str]:
        """Yield directories in the file lists of package managers and NVIDIA's installer."""
        # Without the directory, because each position in a long line, as of a signature, could
        # start a path and the search would be slow.
        library = re.compile(rf"/lib(?:cuda|nvidia-ml)\.so\.{re.escape(self._version)}\b", re.ASCII)
        for path in self._package_lists():
            text = self._text(path, MAX_LIST_BYTES)
            for match in library.finditer(text):
                before = text[max(0, match.start() - MAX_PATH) : match.start()]
                yield "/" + re.split(r"[\s:\"'<>=]", before)[-1].strip("/")

    def _package_lists(self) -> Iterator[str]:
        about = re.compile(r"nvidia|libcuda", re.IGNORECASE)

        def named(directory: str) -> list[str]:
            names = sorted(entry.name for entry in self._entries(directory))
            return [f"{directory}/{name}" for name in names if about.search(name)][:MAX_LISTS]

        yield from named("/var/lib/dpkg/info")
        for package in named("/var/lib/pacman/local"):
            yield f"{package}/files"
        for directory in ("/var/lib/pkgtools/packages", "/var/log/packages"):  # Slackware
            yield from named(directory)
        for package in named("/var/db/pkg/x11-drivers"):  # Gentoo
            yield f"{package}/CONTENTS"
        yield from named("/var/db/xbps")
        yield "/var/lib/nvidia/log"

    def _walk(self, patterns: tuple[str, ...]) -> Iterator[str]:
        """Yield directories below ``patterns`` that have the driver's libcuda or NVML.

        Links are not followed. Directories that another user than root can write to are left out,
        because no package and no loader configuration confirms their files.
        """
        wanted = {f"{name}.so.{self._version}" for name in ("libcuda", "libnvidia-ml")}
        versioned = tuple(pattern.format(version=self._version) for pattern in patterns)
        pending = [(path, 0) for path in self._root.directories(versioned)]
        seen = 0
        while pending and seen < MAX_DIRECTORIES:
            directory, depth = pending.pop(0)
            if not self._is_owned_by_root(directory):
                continue
            seen += 1
            below = []
            for entry in self._root.entries(directory):
                if entry.name in wanted:
                    yield directory
                elif depth < MAX_DEPTH and _is_walked(entry):
                    below.append(f"{directory.rstrip('/')}/{entry.name}")
            pending += [(path, depth + 1) for path in sorted(below)]

    def _is_owned_by_root(self, directory: str) -> bool:
        try:
            status = os.lstat(self._root.open_path(directory))
        except OSError:
            return False
        return status.st_uid in (0, os.geteuid()) and not status.st_mode & stat.S_IWOTH

    def _entries(self, directory: str) -> list[os.DirEntry[str]]:
        resolved = self._resolved(directory)
        return self._root.entries(resolved) if resolved else []

    def _resolved(self, path: str) -> str | None:
        try:
            return self._root.resolve(path)
        except OSError:
            return None

    def _text(self, path: str, limit: int = 1 << 20) -> str:
        try:
            return self._root.read_text(path, limit)
        except OSError:
            return ""


def _is_walked(entry: os.DirEntry[str]) -> bool:
    if entry.name in IMAGE_STORES or not is_safe(entry.name):
        return False
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def firmware_path(host: Root, root: Root) -> str:
    """Return the kernel's firmware path as a path of the driver root; empty if it is outside."""
    try:
        custom = host.read_text("/sys/module/firmware_class/parameters/path").strip()
    except OSError:
        return ""
    return (beneath(join(custom), root.name) or "") if custom.startswith("/") else ""
