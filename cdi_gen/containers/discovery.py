# SPDX-License-Identifier: Apache-2.0
"""Finds the running containers from their processes; no engine is asked.

A container is a group of processes in one mount namespace whose root directory is not the host's.
Services of systemd with mounts of their own (``PrivateTmp=``) have the host's root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cdi_base import control_groups
from cdi_gen.containers import device_nodes, device_rules, group_names, mounts, owners, procfs
from cdi_gen.containers.device_nodes import FoundNode, RemoteFileSystemError
from cdi_gen.containers.device_rules import Device, Reader
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


class Discovery(NamedTuple):
    """The processes of a host."""

    containers: tuple[Container, ...]
    """In the order of their first processes."""
    others: tuple[Process, ...]
    """The processes that are in no container."""
    unseen: tuple[str, ...]
    """What could not be seen, and why."""


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
    host, identity, users = _host(proc)
    groups, others = _groups(processes, proc, host, identity)
    hidden, others = _hidden(others)
    nodes = {node.path: node for node in host_nodes}
    own_groups = control_groups.memberships(_text("/proc", "self", "cgroup"))
    reader = Reader(_text("/proc", "self", "mountinfo"), own_groups)
    containers = []
    with Finders(host_root, by_pid, proc, groups) as finders:
        for group in groups:
            container = _container(group, proc, finders, reader, nodes, users)
            if container is not None:
                containers.append(container)
    containers += hidden
    unseen = (f"{len(hidden)} containers of other users: {NOT_PERMITTED}",) if hidden else ()
    return Discovery(
        containers=tuple(sorted(containers, key=lambda container: container.first.pid)),
        others=tuple(others),
        unseen=unseen,
    )


def _host(proc: str) -> tuple[int | None, tuple[str, str] | None, str]:
    """Return the host's mount namespace, the identity of its root, and its user namespace.

    They are those of process 1; those of this process if it may not look at process 1.
    """
    for pid in ("1", "self"):
        try:
            text = _text(proc, pid, "mountinfo")
            users = os.readlink(f"{proc}/{pid}/ns/user")
            namespace = os.readlink(f"{proc}/{pid}/ns/mnt")
        except OSError:
            continue
        number = int(namespace.partition("[")[2].rstrip("]"))
        return number, mounts.root_identity(mounts.parse(text)), users
    return None, None, ""


def _groups(
    processes: Sequence[Process],
    proc: str,
    host: int | None,
    identity: tuple[str, str] | None,
) -> tuple[list[Group], list[Process]]:
    """Return the containers' processes by container, and the other processes."""
    by_namespace: dict[int, list[Process]] = {}
    others = []
    for process in processes:
        if process.mount_namespace in {None, host}:
            others.append(process)
        else:
            by_namespace.setdefault(process.mount_namespace or 0, []).append(process)
    groups = []
    for members in by_namespace.values():
        members.sort(key=lambda process: (process.start_time, process.pid))
        table = _mounts(members, proc)
        if table is None:
            continue  # they have all ended
        if mounts.root_identity(table) in {None, identity}:
            others += members
        else:
            groups.append(Group(members[0], tuple(members), table))
    return groups, others


def _mounts(members: Sequence[Process], proc: str) -> list[Mount] | None:
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


def _hidden(processes: Sequence[Process]) -> tuple[list[Container], list[Process]]:
    """Return containers of which this process may see the control groups only, and the rest."""
    by_id: dict[tuple[str, str], list[Process]] = {}
    others = []
    for process in processes:
        named = [hint for hint in group_names.hints(dict(process.groups)) if hint.engine]
        if process.mount_namespace is None and named:
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


def _container(
    group: Group,
    proc: str,
    finders: Finders,
    reader: Reader,
    host_nodes: Mapping[str, FoundNode],
    users: str,
) -> Container | None:
    """Return a container; None if it has ended in the meantime."""
    rules = reader.rules(dict(group.first.groups))
    unseen = [rules.fault] if rules.fault else []
    for process in group.processes:
        try:
            with ProcessDirectory(process.pid, proc) as directory:
                if not procfs.is_same(directory, process):
                    continue
                found = _nodes(directory, group.mounts, host_nodes, unseen)
                is_mapped = directory.link("ns/user") != users
                owner = owners.user_of_namespace(directory) if is_mapped else None
        except OSError as error:
            if error.errno not in GONE | DENIED:
                raise
            continue
        origin, faults = finders.origin(group, owner)
        outer = finders.outer(group)
        return Container(
            origin=origin,
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
                for node in found
            ),
            is_privileged=not is_mapped and rules.access(device_rules.UNLISTED) in _NO_LIMIT,
            within=outer.first.pid if outer else None,
            unseen=(*unseen, *faults),
        )
    return None


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
    finally:
        os.close(root)


def _text(proc: str, pid: str, name: str) -> str:
    with open(f"{proc}/{pid}/{name}", "rb") as file:
        return os.fsdecode(file.read(procfs.MAX_MOUNTINFO))
