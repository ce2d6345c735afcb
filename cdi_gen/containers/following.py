# SPDX-License-Identifier: Apache-2.0
"""Finds the running containers again and again, and examines only what is new or has changed.

The first look costs as much as `discovery.discover`, every later one a small part of it:

=====================  ============================================================================
in each look           the numbers and inodes of processes (one listing of /proc: the kernel gives a
                       later process with the same number another inode); the mount namespace of
                       each; the control groups and device rules of containers with GPUs
for a minute           all of a process or a container that is young, because it is still being
                       started: it enters namespaces and control groups, its engine writes its state
on change              a process whose namespace changed, whose parent ended, or whose number has
                       another process; a container whose first process ended or changed its
                       control groups
after `AGAIN` seconds  the rest: names of processes, nodes and mounts of containers, names that
                       engines gave them; containers with GPUs after `AGAIN_WITH_GPUS`
=====================  ============================================================================
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdi_gen.containers import discovery, mounts, procfs
from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.device_rules import Reader, Rules
from cdi_gen.containers.discovery import Discovery, Host, Sight
from cdi_gen.containers.model import Container, Origin, Process
from cdi_gen.containers.mounts import Mount
from cdi_gen.containers.nesting import Finders, Group
from cdi_gen.containers.procfs import DENIED, GONE, ProcessDirectory

YOUNG = 60.0
"""Seconds after its start in which a process or a container is looked at completely."""
AGAIN = 600.0
AGAIN_WITH_GPUS = 60.0
MAX_EXAMINED = 1000
MAX_NEW = 1000
"""Mount namespaces that one look examines, and new ones that it examines in addition: any user can
create many at once. The others have their turn in the next looks."""
RENAMING = frozenset({"docker", "podman"})
"""Engines whose running containers can get another name."""

_GOLDEN_RATIO = 0.618034
"""Its multiples, without the integral part, are spread evenly."""
_TICKS = os.sysconf("SC_CLK_TCK")

_Key = tuple[int, int, int]
"""The mount namespace, and the first process by number and start time: the kernel gives numbers of
namespaces to later ones."""


def seconds_since_boot() -> float:
    """Return the time on the clock of `Process.start_time`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class _ProcessRecord:
    inode: int
    process: Process | None
    """None: a thread of the kernel."""
    due: float


@dataclass(slots=True)
class _NamespaceRecord:
    due: float
    is_settled: bool
    """It was not young when it was looked at."""
    mounts: list[Mount]
    """What `_short` leaves of its table."""
    groups: tuple[tuple[str, str], ...]
    """The control groups of the first process."""
    sight: Sight | None = None
    """None: the root is the host's."""
    rules: Rules | None = None
    """The device rules of the first process."""
    container: Container | None = None


class Following:
    """The containers of one host over time.

    Args:
        host_root: the path of the host's ``/``.
        clock: the seconds since the boot.
    """

    def __init__(
        self, host_root: str = "/", clock: Callable[[], float] = seconds_since_boot
    ) -> None:
        self._host_root = host_root
        self._proc = f"{host_root.rstrip('/')}/proc"
        self._clock = clock
        self._now = 0.0
        self._processes: dict[int, _ProcessRecord] = {}
        self._namespaces: dict[_Key, _NamespaceRecord] = {}
        self._host_nodes: tuple[FoundNode, ...] = ()
        self._host: Host | None = None
        self._reader: Reader | None = None
        self._own_due = 0.0
        self._first_with_gpus: set[int] = set()
        """The first processes of containers with GPUs."""

    def discover(self, host_nodes: Sequence[FoundNode] = ()) -> Discovery:
        """Find the running containers, as `discovery.discover` does.

        Raises:
            OSError: /proc cannot be read.
        """
        self._now = self._clock()
        processes = self._read_processes()
        host, reader = self._own_view()
        is_same_host = self._host_nodes == tuple(host_nodes)
        self._host_nodes = tuple(host_nodes)
        before = self._namespaces if is_same_host else {}
        self._namespaces = {}
        examined: dict[_Key, Origin | None] = {}
        """The origin is given of those whose origin cannot have changed."""
        postponed: list[Process] = []

        def table_of(members: Sequence[Process]) -> list[Mount] | None:
            first = members[0]
            record = before.get(_key(first))
            if record is not None and record.groups == first.groups:
                if self._now < record.due or len(examined) >= MAX_EXAMINED:
                    self._namespaces[_key(first)] = record
                    return record.mounts
            elif len(examined) >= MAX_EXAMINED + MAX_NEW:
                postponed.append(first)
                return None
            table = discovery.mounts_of(members, self._proc)
            if table is None:
                return None
            examined[_key(first)] = _lasting_origin(record, first)
            due = self._due(first, AGAIN)
            record = _NamespaceRecord(due, due > self._now, _short(table), first.groups)
            self._namespaces[_key(first)] = record
            return table

        groups, others = discovery.grouped(processes, host, table_of)
        hidden, others = discovery.hidden_containers(others)
        by_pid = {process.pid: process for process in processes}
        with Finders(self._host_root, by_pid, self._proc, groups, host.users) as finders:
            nodes = {node.path: node for node in self._host_nodes}
            for group in groups:
                key = _key(group.first)
                if key in examined:
                    self._namespaces[key].sight = discovery.look(
                        group, self._proc, finders, nodes, host.users, examined[key]
                    )
            containers = [*self._containers(groups, finders, reader)]
        result = discovery.discovery_of([*containers, *hidden], others, len(hidden))
        if not postponed:
            return result
        text = f"{len(postponed)} new mount namespaces: too many at once, they are examined later"
        return result._replace(unseen=(*result.unseen, text))

    # Processes

    def _read_processes(self) -> list[Process]:
        """Return all processes, in the order of their numbers."""
        with os.scandir(self._proc) as entries:
            inodes = {int(entry.name): entry.inode() for entry in entries if entry.name.isdecimal()}
        before = self._processes
        replaced = {
            pid
            for pid, record in before.items()
            if (inode := inodes.get(pid)) is not None and inode != record.inode
        }
        self._processes = {}
        processes = []
        for pid in sorted(inodes):
            record = before.get(pid)
            if record is None or pid in replaced or self._has_changed(record, inodes, replaced):
                record = self._read_process(pid, inodes[pid], record)
            if record is not None:
                self._processes[pid] = record
                if record.process is not None:
                    processes.append(record.process)
        return processes

    def _has_changed(
        self, record: _ProcessRecord, inodes: dict[int, int], replaced: set[int]
    ) -> bool:
        """Whether a process has to be read again."""
        process = record.process
        if process is None:
            return False
        parent = process.parent
        if (
            record.due <= self._now
            or process.pid in self._first_with_gpus
            or (parent and (parent not in inodes or parent in replaced))
        ):
            return True
        try:
            link = os.readlink(f"{self._proc}/{process.pid}/ns/mnt")
        except OSError as error:
            return error.errno not in DENIED or process.mount_namespace is not None
        return link != f"mnt:[{process.mount_namespace}]"

    def _read_process(
        self, pid: int, inode: int, before: _ProcessRecord | None
    ) -> _ProcessRecord | None:
        """Return a process; None if it has ended."""
        try:
            with ProcessDirectory(pid, self._proc) as directory:
                process = procfs.read_process(directory)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in GONE | DENIED:
                raise
            return None
        if before is not None and before.process == process:
            process = before.process  # so that equal containers are the same object
        return _ProcessRecord(inode, process, self._due(process, AGAIN) if process else 0)

    def _due(self, process: Process, seconds: float) -> float:
        """Return when to look again at a process, or at the container of this first process."""
        if self._now < process.start_time / _TICKS + YOUNG:
            return self._now
        # Not all in the same look: they are spread by their numbers.
        return self._now + seconds * (1 - process.pid * _GOLDEN_RATIO % 1 / 2)

    # Containers

    def _own_view(self) -> tuple[Host, Reader]:
        """Return the host, and the reader of rules, which both depend on long tables of mounts."""
        if self._host is None or self._reader is None or self._own_due <= self._now:
            self._host, self._reader = discovery.host_of(self._proc), discovery.own_reader()
            self._own_due = self._now + AGAIN
        self._reader.read_again()
        return self._host, self._reader

    def _containers(
        self, groups: Iterable[Group], finders: Finders, reader: Reader
    ) -> Iterator[Container]:
        """Yield the containers that have not ended in the meantime."""
        numbers = {(node.major, node.minor) for node in self._host_nodes}
        with_gpus = set()
        for group in groups:
            record = self._namespaces[_key(group.first)]
            if record.sight is None:
                del self._namespaces[_key(group.first)]
                continue
            rules = record.rules
            has_gpus = any((node.major, node.minor) in numbers for node in record.sight.nodes)
            if has_gpus:
                with_gpus.add(group.first.pid)
                record.due = min(record.due, self._due(group.first, AGAIN_WITH_GPUS))
            if rules is None or has_gpus:
                rules = reader.rules(dict(group.first.groups))
            outer = finders.outer(group)
            container = record.container
            if (
                container is None
                or record.rules != rules
                or container.processes != group.processes
                or container.within != (outer.first.pid if outer else None)
            ):
                container = discovery.container_of(group, record.sight, rules, outer)
            record.rules, record.container = rules, container
            yield container
        self._first_with_gpus = with_gpus


def _lasting_origin(record: _NamespaceRecord | None, first: Process) -> Origin | None:
    """Return a container's origin; None if it must be looked for."""
    if record is None or record.sight is None or not record.is_settled:
        return None
    origin = record.sight.origin
    is_lasting = record.groups == first.groups and not record.sight.origin_unseen
    return origin if is_lasting and origin.engine not in RENAMING else None


def _short(table: Sequence[Mount]) -> list[Mount]:
    """Return the mounts that tell whose root it is, and which files must not be touched."""
    root = mounts.at(table, "/")
    return [mount for mount in table if mount is root or mount.is_remote]


def _key(first: Process) -> _Key:
    return first.mount_namespace or 0, first.pid, first.start_time
