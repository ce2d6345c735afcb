# SPDX-License-Identifier: Apache-2.0
"""Directories that are seen as ``/``: a driver root, a dev root, a host mounted elsewhere.

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
    """A directory that is seen as ``/``.

    Args:
        name: its path on the host, as a spec has to name it.
        seen_from: where the host's own ``/`` is visible to this process; other than ``/`` when
            cdi-gen runs in a container, or looks at a host laid out in a directory.
    """

    def __init__(self, name: str = "/", *, seen_from: str = "/") -> None:
        self.name = join(name)
        self._prefix = join(seen_from, name).rstrip("/")
        self._links: dict[str, str | None] = {}
        self._listed: dict[str, list[str]] = {}

    def open_path(self, path: str) -> str:
        """The path by which this process can open ``path``, an already resolved path in here."""
        return self._prefix + path or "/"

    def host_path(self, path: str) -> str:
        """The path on the host of ``path``, an already resolved path in here."""
        return join(self.name, path)

    def inside(self, host_path: str) -> str | None:
        """The path in here of a path on the host; None where it lies outside."""
        return beneath(join(host_path), self.name)

    def resolve(self, path: str) -> str:
        """Follow every symbolic link in ``path`` without leaving this root.

        Raises:
            OSError: nothing is there, or the links loop.
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
            target = self._readlink(candidate)
            if target is None:
                resolved = candidate
                continue
            links += 1
            if links > files.MAX_LINKS:
                raise OSError(errno.ELOOP, "too many symbolic links", path)
            if target.startswith("/"):
                resolved = ""
            pending += target.split("/")[::-1]
        return resolved or "/"

    def _readlink(self, path: str) -> str | None:
        """The link's text; None where ``path`` is something else than a link."""
        if path in self._links:
            return self._links[path]
        try:
            target = os.readlink(self._prefix + path)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            target = None
        self._links[path] = target
        return target

    def lstat(self, path: str) -> os.stat_result:
        """Attributes of ``path`` after links in its directories, not of a final link's target.

        Raises:
            OSError: nothing is there.
        """
        directory, _, name = path.rpartition("/")
        return os.lstat(f"{self._prefix}{self.resolve(directory)}/{name}")

    def exists(self, path: str) -> bool:
        """Whether anything is at ``path``, be it a link that leads nowhere."""
        try:
            self.lstat(path)
        except OSError:
            return False
        return True

    def read_text(self, path: str, limit: int = 1 << 20) -> str:
        """At most ``limit`` bytes of the file, decoded leniently: procfs and sysfs are ASCII.

        Raises:
            OSError: as `read_bytes`.
        """
        return self.read_bytes(path, limit).decode("ascii", errors="replace")

    def read_bytes(self, path: str, limit: int) -> bytes:
        """At most ``limit`` bytes of a regular file.

        Raises:
            OSError: it is not there, cannot be read, or is of another kind: to open a FIFO would
                wait, to open a device could set it off.
        """
        descriptor = files.open_regular(self.open_path(self.resolve(path)))
        try:
            return files.beginning(descriptor, limit)
        finally:
            os.close(descriptor)

    def entries(self, directory: str) -> list[os.DirEntry[str]]:
        """The entries of a directory, an already resolved path; none where it can't be read."""
        try:
            with os.scandir(self.open_path(directory)) as found:
                return list(found)
        except OSError:
            return []

    def directories(self, patterns: tuple[str, ...]) -> Iterator[str]:
        """Resolved directories that match, in the patterns' order, each once.

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
        """The paths that an absolute pattern stands for; resolved as far as its last ``*``."""
        found = [""]
        for component in pattern.split("/")[1:]:
            if "*" in component:
                found = [each for path in found for each in self._matching(path, component)]
            else:
                found = [f"{path}/{component}" for path in found]
        return found

    def _matching(self, directory: str, component: str) -> list[str]:
        try:
            resolved = self.resolve(directory)
        except OSError:
            return []
        if resolved not in self._listed:
            self._listed[resolved] = sorted(entry.name for entry in self.entries(resolved))
        names = fnmatch.filter(self._listed[resolved], component)
        return [f"{resolved.rstrip('/')}/{name}" for name in names]
