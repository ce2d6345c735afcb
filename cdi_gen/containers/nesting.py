# SPDX-License-Identifier: Apache-2.0
"""Finds out which container a container was started in, as by Docker in Docker.

The engine's files are then in the outer container, which may be hostile: they are read below its
root only, and what they say is a name to print.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from cdi_gen.containers.model import Origin, Process
from cdi_gen.containers.mounts import Mount
from cdi_gen.containers.origins import Finder
from cdi_gen.containers.procfs import ProcessDirectory
from cdi_gen.containers.records import Tree

MAX_ANCESTORS = 1000

_ENGINE_DIRECTORIES = frozenset({"/", "/run", "/var", "/var/lib", "/var/lib/docker"})


class Group(NamedTuple):
    """The processes of a container."""

    first: Process
    """The oldest."""
    processes: tuple[Process, ...]
    mounts: list[Mount]


class Finders:
    """Finders of origins: of the host, and of each container that an engine runs in."""

    def __init__(
        self, host_root: str, processes: Mapping[int, Process], proc: str, groups: Sequence[Group]
    ) -> None:
        """Take the host's processes by number, and those of containers."""
        self._host_root = host_root
        self._processes = processes
        self._proc = proc
        self._group_of = {process.pid: group for group in groups for process in group.processes}
        self._by_pid: dict[int | None, Finder | None] = {}
        self._open = ExitStack()

    def __enter__(self) -> Finders:  # noqa: PYI034 - typing.Self exists since Python 3.11
        return self

    def __exit__(self, *_fault: object) -> None:
        self._open.close()

    def outer(self, group: Group) -> Group | None:
        """Return the container that a container was started in; None if it is the host."""
        process: Process | None = group.first
        for _ in range(MAX_ANCESTORS):
            process = self._processes.get(process.parent) if process else None
            if process is None:
                return None
            outer = self._group_of.get(process.pid)
            if outer is not None and outer is not group:
                return outer
        return None

    def origin(self, group: Group, owner: int | None = None) -> tuple[Origin, tuple[str, ...]]:
        """Return the origin of a container, and what could not be read.

        Args:
            group: its processes.
            owner: of its user namespace; None if it is in the host's.
        """
        outer = self.outer(group)
        key = outer.first.pid if outer else None
        if key not in self._by_pid:
            self._by_pid[key] = self._finder(outer)
        finder = self._by_pid[key]
        if finder is None:
            return Origin(), ("the files of its engine, in another container, cannot be read",)
        return finder.origin(group.first, owner)

    def _finder(self, outer: Group | None) -> Finder | None:
        try:
            if outer is None:
                root = os.open(self._host_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            elif any(
                mount.is_remote and mount.point in _ENGINE_DIRECTORIES for mount in outer.mounts
            ):
                return None  # it may never answer
            else:
                with ProcessDirectory(outer.first.pid, self._proc) as directory:
                    root = directory.root()
        except OSError:
            return None
        self._open.callback(os.close, root)
        return Finder(Tree(root), self._processes, self._proc, inner=outer is not None)
