# SPDX-License-Identifier: Apache-2.0
"""Finds the running containers from their processes; no engine is asked.

A container is a group of processes in one mount namespace whose root directory is not the host's.
Services of systemd with mounts of their own (``PrivateTmp=``) have the host's root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cdi_base import control_groups
from cdi_gen.containers import device_nodes, device_rules, group_names, mounts, owners, procfs
from cdi_gen.containers.device_nodes import FoundNode, RemoteFileSystemError
from cdi_gen.containers.device_rules import Device, Reader, Rules
from cdi_gen.containers.model import (
    ALLOWED,
    UNRESTRICTED,
    Container,
    ContainerNode,
    Origin,
    Process,
)
from cdi_gen.containers.mounts import Mount
from cdi_gen.containers.nesting import Finders, Group
from cdi_gen.containers.procfs import DENIED, GONE, ProcessDirectory

NOT_PERMITTED = "only root may look at it"

Identity = tuple[str, str]
"""What `mounts.root_identity` returns."""


class Discovery(NamedTuple):
    """The processes of a host."""

    containers: tuple[Container, ...]
    """In the order of their first processes."""
    others: tuple[Process, ...]
    """The processes that are in no container."""
    unseen: tuple[str, ...]
    """What could not be seen, and why."""


class Host(NamedTuple):
    """What tells containers from the host."""

    namespace: int | None
    """The host's mount namespace."""
    root: Identity | None
    """The identity of its root directory."""
    users: str
    """Its user namespace."""


class Sight(NamedTuple):
    """What is seen in a container, without the device rules of its control groups."""

    origin: Origin
    origin_unseen: tuple[str, ...]
    nodes: tuple[FoundNode, ...]
    is_mapped: bool
    """It is in a user namespace of its own."""
    unseen: tuple[str, ...]


def discover(host_root: str = "/", host_nodes: Sequence[FoundNode] = ()) -> Discovery:
    """Find the running containers.

    Args:
        host_root: the path of the host's ``/``.
        host_nodes: the host's nodes of GPUs, for containers whose files must not be touched.

    Raises:
        OSError: /proc cannot be read.
    """
    proc = f"{host_root.rstrip('/')}/proc"
    processes = procfs.processes(proc)
    by_pid = {process.pid: process for process in processes}
    host = host_of(proc)

    def table_of(members: Sequence[Process]) -> list[Mount] | None:
        return mounts_of(members, proc)

    groups, others = grouped(processes, host, table_of)
    hidden, others = hidden_containers(others)
    nodes = {node.path: node for node in host_nodes}
    reader = own_reader()
    containers = []
    with Finders(host_root, by_pid, proc, groups, host.users) as finders:
        for group in groups:
            sight = look(group, proc, finders, nodes, host.users)
            if sight is not None:
                outer = finders.outer(group)
                rules = reader.rules(dict(group.first.groups))
                containers.append(container_of(group, sight, rules, outer))
    return discovery_of([*containers, *hidden], others, len(hidden))


def discovery_of(
    containers: Iterable[Container], others: Iterable[Process], hidden: int
) -> Discovery:
    """Return containers in order, with what is not seen of those that only root may look at."""
    return Discovery(
        containers=tuple(sorted(containers, key=lambda container: container.first.pid)),
        others=tuple(others),
        unseen=(f"{hidden} containers of other users: {NOT_PERMITTED}",) if hidden else (),
    )


def host_of(proc: str) -> Host:
    """Return the host: that of process 1, or of this process if it may not look at process 1."""
    for pid in ("1", "self"):
        try:
            text = _text(proc, pid, "mountinfo")
            users = os.readlink(f"{proc}/{pid}/ns/user")
            namespace = os.readlink(f"{proc}/{pid}/ns/mnt")
        except OSError:
            continue
        number = int(namespace.partition("[")[2].rstrip("]"))
        return Host(number, mounts.root_identity(mounts.parse(text)), users)
    return Host(None, None, "")


def own_reader() -> Reader:
    """Return a reader of device rules, by the mounts and control groups of this process."""
    own_groups = control_groups.memberships(_text("/proc", "self", "cgroup"))
    return Reader(_text("/proc", "self", "mountinfo"), own_groups)


def grouped(
    processes: Iterable[Process],
    host: Host,
    table_of: Callable[[Sequence[Process]], list[Mount] | None],
) -> tuple[list[Group], list[Process]]:
    """Return the containers' processes by container, and the other processes.

    Args:
        processes: all of them.
        host: the host.
        table_of: returns the mounts of processes of one mount namespace; None: they have ended.
    """
    by_namespace: dict[int, list[Process]] = {}
    others = []
    for process in processes:
        namespace = process.mount_namespace
        if namespace is None or namespace == host.namespace:
            others.append(process)
        else:
            by_namespace.setdefault(namespace, []).append(process)
    groups = []
    for members in by_namespace.values():
        members.sort(key=lambda process: (process.start_time, process.pid))
        table = table_of(members)
        if table is None:
            continue  # they have all ended
        if mounts.root_identity(table) in {None, host.root}:
            others += members
        else:
            groups.append(Group(members[0], tuple(members), table))
    return groups, others


def mounts_of(members: Sequence[Process], proc: str) -> list[Mount] | None:
    """Return the mounts of processes of one mount namespace; None if all have ended."""
    for process in members:
        try:
            with ProcessDirectory(process.pid, proc) as directory:
                if not procfs.is_same(directory, process):
                    continue
                return mounts.parse(directory.text("mountinfo", procfs.MAX_MOUNTINFO))
        except OSError as error:
            if error.errno not in GONE | DENIED:
                raise
    return None


def hidden_containers(processes: Sequence[Process]) -> tuple[list[Container], list[Process]]:
    """Return containers of which this process may see the control groups only, and the rest."""
    by_id: dict[tuple[str, str], list[Process]] = {}
    others = []
    for process in processes:
        named = (
            [hint for hint in group_names.hints(dict(process.groups)) if hint.engine]
            if process.mount_namespace is None
            else []
        )
        if named:
            by_id.setdefault(named[0], []).append(process)
        else:
            others.append(process)
    containers = [
        Container(
            origin=Origin(engine=engine, id=container_id),
            first=min(members, key=lambda process: process.start_time),
            processes=tuple(members),
            unseen=(NOT_PERMITTED,),
        )
        for (engine, container_id), members in by_id.items()
    ]
    return containers, others


def look(
    group: Group,
    proc: str,
    finders: Finders,
    host_nodes: Mapping[str, FoundNode],
    users: str,
    origin: Origin | None = None,
) -> Sight | None:
    """Look at a container; None if it has ended in the meantime.

    Args:
        group: its processes.
        proc: the directory of processes.
        finders: find its origin.
        host_nodes: the host's nodes of GPUs by path.
        users: the host's user namespace.
        origin: its origin, if that cannot have changed.
    """
    unseen: list[str] = []
    for process in group.processes:
        try:
            with ProcessDirectory(process.pid, proc) as directory:
                if not procfs.is_same(directory, process):
                    continue
                is_mapped = directory.link("ns/user") != users
                if is_mapped and mounts.may_hang(group.mounts):
                    found = device_nodes.bind_mounted(group.mounts, host_nodes)
                else:
                    found = _nodes(directory, group.mounts, host_nodes, unseen)
                owner = owners.user_of_namespace(directory) if is_mapped else None
        except OSError as error:
            if error.errno not in GONE | DENIED:
                raise
            continue
        faults: tuple[str, ...] = ()
        if origin is None:
            origin, faults = finders.origin(group, owner)
        return Sight(origin, faults, tuple(found), is_mapped, tuple(unseen))
    return None


def container_of(group: Group, sight: Sight, rules: Rules, outer: Group | None) -> Container:
    """Return a container; pure."""
    return Container(
        origin=sight.origin,
        first=group.first,
        processes=group.processes,
        nodes=tuple(
            ContainerNode(
                path=node.path,
                kind=node.kind,
                major=node.major,
                minor=node.minor,
                access=rules.access(Device(node.kind, node.major, node.minor)),
            )
            for node in sight.nodes
        ),
        is_privileged=not sight.is_mapped and rules.access(device_rules.UNLISTED) in _NO_LIMIT,
        within=outer.first.pid if outer else None,
        unseen=(*([rules.fault] if rules.fault else []), *sight.unseen, *sight.origin_unseen),
    )


_NO_LIMIT = frozenset({ALLOWED, UNRESTRICTED})


def _nodes(
    directory: ProcessDirectory,
    table: list[Mount],
    host_nodes: Mapping[str, FoundNode],
    unseen: list[str],
) -> list[FoundNode]:
    root = directory.root()
    try:
        return list(device_nodes.nodes(root, table))
    except RemoteFileSystemError as error:
        unseen.append(f"its /dev: {error}")
        return device_nodes.bind_mounted(table, host_nodes)
    except (FileNotFoundError, NotADirectoryError):
        return []  # no /dev
    except OSError as error:
        if error.errno in GONE:
            raise
        # What its user can bring about hides neither the container nor others.
        unseen.append(f"its /dev: {error.strerror}")
        return device_nodes.bind_mounted(table, host_nodes)
    finally:
        os.close(root)


def _text(proc: str, pid: str, name: str) -> str:
    with open(f"{proc}/{pid}/{name}", "rb") as file:
        return os.fsdecode(file.read(procfs.MAX_MOUNTINFO))
