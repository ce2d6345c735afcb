# SPDX-License-Identifier: Apache-2.0
"""Finds out which container a container was started in, as by Docker in Docker.

The engine's files are then in the outer container, which may be hostile: they are read below its
root only, never from a file system that may not answer, and what they say is a name to print.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from cdi_base.rootfs.resolve import mount_id
from cdi_gen.containers import mounts, procfs
from cdi_gen.containers.model import Origin, Process
from cdi_gen.containers.mounts import Mount
from cdi_gen.containers.origins import Finder
from cdi_gen.containers.procfs import ProcessDirectory
from cdi_gen.containers.records import Tree

MAX_ANCESTORS = 1000


class Group(NamedTuple):
    """The processes of a container."""

    first: Process
    """The oldest."""
    processes: tuple[Process, ...]
    mounts: list[Mount]


class Finders:
    """Finders of origins: of the host, and of each container that an engine runs in."""

    def __init__(
        self,
        host_root: str,
        processes: Mapping[int, Process],
        proc: str,
        groups: Sequence[Group],
        users: str,
    ) -> None:
        """Take the host's processes by number, those of containers, and its user namespace."""
        self._host_root = host_root
        self._user_namespace = users
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
            else:
                with ProcessDirectory(outer.first.pid, self._proc) as directory:
                    return self._inner_finder(directory)
        except OSError:
            return None
        self._open.callback(os.close, root)
        return Finder(Tree(root), self._processes, self._proc)

    def _inner_finder(self, directory: ProcessDirectory) -> Finder | None:
        """Return a finder for the files of a container; None if its root may never answer."""
        table = mounts.parse(directory.text("mountinfo", procfs.MAX_MOUNTINFO))
        is_mapped = directory.link("ns/user") != self._user_namespace
        local = frozenset(
            int(mount.id)
            for mount in table
            if not mount.is_remote and not (is_mapped and mount.kind == mounts.OVERLAY)
        )
        root = directory.root()
        self._open.callback(os.close, root)
        if mount_id(root) not in local:
            return None
        return Finder(Tree(root, local), self._processes, self._proc, inner=True)
