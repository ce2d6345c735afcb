# SPDX-License-Identifier: Apache-2.0
"""Directories that stand for ``/``: a driver root, a dev root, the root of a mounted host.

Symbolic links resolve inside the root, as in a chroot: an absolute link in the driver root
``/run/nvidia/driver`` leads to a file of that root, not of the host.
"""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Iterator

from cdi_base import files
from cdi_gen.paths import beneath, join


class Root:
    """A directory that stands for ``/``.

    Args:
        name: the path of the directory on the host, as specs name it.
        seen_from: the path of the host's ``/`` for this process. It is not ``/`` if cdi-gen runs
            in a container, or probes a host whose root is a directory.
    """

    def __init__(self, name: str = "/", *, seen_from: str = "/") -> None:
        self.name = join(name)
        self._prefix = join(seen_from, name).rstrip("/")
        self._links: dict[str, str | None] = {}
        self._entry_names: dict[str, list[str]] = {}

    def open_path(self, path: str) -> str:
        """Return the path by which this process opens ``path``, a resolved path of this root."""
        return self._prefix + path or "/"

    def host_path(self, path: str) -> str:
        """Return the path on the host of ``path``, a resolved path of this root."""
        return join(self.name, path)

    def inside(self, host_path: str) -> str | None:
        """Return a path of the host as a path of this root; None if it is outside the root."""
        return beneath(join(host_path), self.name)

    def resolve(self, path: str, *, may_be_missing: bool = False) -> str:
        """Follow every symbolic link in ``path`` without leaving this root.

        Args:
            path: of this root.
            may_be_missing: whether components may be missing; what follows them has no links.

        Raises:
            OSError: the path does not exist, or has too many links.
        """
        pending = path.split("/")[::-1]
        resolved = ""
        links = 0
        while pending:
            component = pending.pop()
            if component in ("", "."):
                continue
            if component == "..":
                resolved = resolved.rpartition("/")[0]
                continue
            candidate = f"{resolved}/{component}"
            target = self._readlink(candidate, may_be_missing=may_be_missing)
            if target is None:
                resolved = candidate
                continue
            links += 1
            if links > files.MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                resolved = ""
            pending += target.split("/")[::-1]
        return resolved or "/"

    def _readlink(self, path: str, *, may_be_missing: bool) -> str | None:
        """Return the text of a symbolic link; None if ``path`` is not a link."""
        if path in self._links:
            return self._links[path]
        try:
            target = os.readlink(self._prefix + path)
        except OSError as error:
            if error.errno == errno.ENOENT and may_be_missing:
                return None  # not kept: it may be created
            if error.errno != errno.EINVAL:
                raise
            target = None
        self._links[path] = target
        return target

    def lstat(self, path: str) -> os.stat_result:
        """Return the attributes of ``path``, following links in directories but no final link.

        Raises:
            OSError: the path does not exist.
        """
        directory, _, name = path.rpartition("/")
        return os.lstat(f"{self._prefix}{self.resolve(directory)}/{name}")

    def exists(self, path: str) -> bool:
        """Whether ``path`` exists, possibly as a broken symbolic link."""
        try:
            self.lstat(path)
        except OSError:
            return False
        return True

    def read_text(self, path: str, limit: int = 1 << 20) -> str:
        """Return at most ``limit`` bytes of a file as ASCII text, invalid bytes replaced.

        Raises:
            OSError: as `read_bytes`.
        """
        return self.read_bytes(path, limit).decode("ascii", errors="replace")

    def read_bytes(self, path: str, limit: int) -> bytes:
        """Return at most ``limit`` bytes of a regular file.

        Raises:
            OSError: the file does not exist, cannot be read, or is not a regular file. (To open a
                FIFO would block, to open a device could trigger it.)
        """
        descriptor = files.open_regular(self.open_path(self.resolve(path)))
        try:
            return files.beginning(descriptor, limit)
        finally:
            os.close(descriptor)

    def entries(self, directory: str) -> list[os.DirEntry[str]]:
        """Return the entries of a directory, a resolved path; empty if it cannot be read."""
        try:
            with os.scandir(self.open_path(directory)) as entries:
                return list(entries)
        except OSError:
            return []

    def directories(self, patterns: tuple[str, ...]) -> Iterator[str]:
        """Yield the resolved directories that match, each once, in the order of the patterns.

        A pattern is relative to the root; ``*`` stands for any part of one component.
        """
        seen = set()
        for pattern in patterns:
            for path in self.expand("/" + pattern):
                try:
                    resolved = self.resolve(path)
                except OSError:
                    continue
                if resolved not in seen and os.path.isdir(self.open_path(resolved)):
                    seen.add(resolved)
                    yield resolved

    def expand(self, pattern: str) -> list[str]:
        """Return the paths that match an absolute pattern, resolved up to its last ``*``."""
        paths = [""]
        for component in pattern.split("/")[1:]:
            if "*" in component:
                paths = [match for path in paths for match in self._matching(path, component)]
            else:
                paths = [f"{path}/{component}" for path in paths]
        return paths

    def _matching(self, directory: str, component: str) -> list[str]:
        try:
            resolved = self.resolve(directory)
        except OSError:
            return []
        if resolved not in self._entry_names:
            self._entry_names[resolved] = sorted(entry.name for entry in self.entries(resolved))
        names = fnmatch.filter(self._entry_names[resolved], component)
        return [f"{resolved.rstrip('/')}/{name}" for name in names]
