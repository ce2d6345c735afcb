# SPDX-License-Identifier: Apache-2.0
"""Examines one container: running, by its processes, or ended, by its bundle or its state."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cdi_base import control_groups
from cdi_gen.containers import ended, loader, mounts, procfs, records
from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.device_rules import Device, Reader, Rules
from cdi_gen.containers.discovery import Discovery, discover
from cdi_gen.containers.loader import Programs
from cdi_gen.containers.model import UNKNOWN, Container, Origin
from cdi_gen.containers.mounts import Mount
from cdi_gen.containers.procfs import ProcessDirectory
from cdi_gen.containers.records import Document, RecordError, Tree
from cdi_gen.errors import CdiGenError

_SHORTEST_ID = 3


class NoSuchContainerError(CdiGenError):
    """No container is running or known by this name."""

    code = "CDG-Y203"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What is known about a container."""

    origin: Origin
    configuration: Document = field(default_factory=dict)
    """Its config.json; empty if it cannot be read."""
    container: Container | None = None
    """None: it does not run."""
    mounts: tuple[Mount, ...] = ()
    rules: Rules | None = None
    """The device rules of its control groups; None: it does not run."""
    programs: Programs | None = None
    """What programs in it find; None: not seen."""
    error: str = ""
    """Why it ended, as its engine wrote it."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, and why."""

    def access(self, kind: str, major: int, minor: int) -> str:
        """Return whether its control groups let it open a device for reading and writing."""
        if self.rules is None:
            return UNKNOWN
        return self.rules.access(Device(kind, major, minor))


def by_name(name: str, host_root: str = "/", nodes: Sequence[FoundNode] = ()) -> Examination:
    """Examine a container by its id, the beginning of it, its name, or a process in it.

    Raises:
        NoSuchContainerError: there is none, or there are several.
    """
    discovery = discover(host_root, nodes)
    matching = [one for one in discovery.containers if _is_called(one, name)]
    if len(matching) > 1:
        titles = ", ".join(f"{one.origin.id or '-'} (PID {one.first.pid})" for one in matching)
        raise NoSuchContainerError(
            f"{len(matching)} containers are called {name}: {titles}",
            hint="give the number of a process: cdi-gen why --container PID",
            subject=name,
        )
    if matching:
        return _running(matching[0], host_root)
    with _tree(host_root) as tree:
        known = ended.by_name(tree, name)
        if known is not None:
            return _ended(tree, known.origin, known.error)
    hint = "list those with GPUs: sudo cdi-gen who"
    if discovery.unseen:
        hint = f"only root sees all containers: sudo cdi-gen why --container {name}"
    raise NoSuchContainerError(f"no container is called {name}", hint=hint, subject=name)


def by_bundle(bundle: str, host_root: str = "/", nodes: Sequence[FoundNode] = ()) -> Examination:
    """Examine the container of a bundle, whether it runs or not.

    Raises:
        NoSuchContainerError: the directory has no config.json.
        RecordError: config.json cannot be read.
    """
    path = os.path.abspath(bundle)
    running = _of(discover(host_root, nodes), lambda origin: origin.bundle == path)
    if running is not None:
        return _running(running, host_root)
    with _tree(host_root) as tree:
        if tree.configuration(path) is None:
            raise NoSuchContainerError(
                f"{bundle}: no config.json in this directory", subject=bundle
            )
        return _ended(tree, Origin(bundle=path))


def by_state(directory: str, host_root: str = "/", nodes: Sequence[FoundNode] = ()) -> Examination:
    """Examine the container of a runtime's state directory, whether it runs or not.

    Raises:
        NoSuchContainerError: the directory has no state of a container.
        RecordError: the state cannot be read.
    """
    path = os.path.abspath(directory)
    with _tree(host_root) as tree:
        state = records.state_in(tree, path)
        if state is None:
            raise NoSuchContainerError(
                f"{directory}: neither state.json (runc) nor status (crun) in this directory",
                subject=directory,
            )
        discovery = discover(host_root, nodes)
        running = _of(discovery, lambda origin: origin.state == path) or next(
            (
                one
                for one in discovery.containers
                if (one.first.pid, one.first.start_time) == (state.pid, state.start_time)
            ),
            None,
        )
        if running is not None:
            origin = replace(
                running.origin, state=path, bundle=running.origin.bundle or state.bundle
            )
            return _running(replace(running, origin=origin), host_root)
        origin = Origin(
            engine=state.runtime, id=os.path.basename(path), bundle=state.bundle, state=path
        )
        return _ended(tree, origin)


def _is_called(container: Container, name: str) -> bool:
    origin = container.origin
    if name in {origin.id, origin.name}:
        return True
    if any(str(process.pid) == name for process in container.processes):
        return True
    return len(name) >= _SHORTEST_ID and not name.isdecimal() and origin.id.startswith(name)


def _of(discovery: Discovery, is_wanted: Callable[[Origin], bool]) -> Container | None:
    return next((one for one in discovery.containers if is_wanted(one.origin)), None)


def _running(container: Container, host_root: str) -> Examination:
    proc = f"{host_root.rstrip('/')}/proc"
    unseen = [*container.unseen]
    with _engine_tree(container, host_root) as tree:
        configuration = _configuration(tree, container.origin.bundle, unseen)
    own_groups = control_groups.memberships(_own("cgroup"))
    rules = Reader(_own("mountinfo"), own_groups).rules(dict(container.first.groups))
    table: list[Mount] = []
    programs = None
    try:
        with ProcessDirectory(container.first.pid, proc) as directory:
            table = mounts.parse(directory.text("mountinfo", procfs.MAX_MOUNTINFO))
            root = directory.root()
            try:
                programs = _programs(root, table, configuration, unseen)
            finally:
                os.close(root)
    except OSError as error:
        unseen.append(f"its files: {error.strerror}")
    return Examination(
        origin=container.origin,
        configuration=configuration,
        container=container,
        mounts=tuple(table),
        rules=rules,
        programs=programs,
        unseen=tuple(dict.fromkeys(unseen)),
    )


def _programs(
    root: int, table: list[Mount], configuration: Document, unseen: list[str]
) -> Programs | None:
    remote = [mount for mount in table if mount.is_remote and mount.point in loader.DIRECTORIES]
    if remote:
        unseen.append(
            f"its libraries: {remote[0].point} is a file system of type {remote[0].kind}, which "
            "may not answer"
        )
        return None
    return loader.programs(Tree(root), loader.environment(configuration))


def _ended(tree: Tree, origin: Origin, error: str = "") -> Examination:
    unseen: list[str] = []
    configuration = _configuration(tree, origin.bundle, unseen)
    return Examination(
        origin=origin, configuration=configuration, error=error, unseen=tuple(unseen)
    )


def _configuration(tree: Tree, bundle: str, unseen: list[str]) -> Document:
    if not bundle.startswith("/"):
        return {}
    try:
        return tree.configuration(bundle) or {}
    except RecordError as error:
        unseen.append(error.message)
        return {}


@contextmanager
def _engine_tree(container: Container, host_root: str) -> Iterator[Tree]:
    """The files of the engine: of the host, or of the container that the engine runs in."""
    path = host_root
    if container.within is not None:
        path = f"{host_root.rstrip('/')}/proc/{container.within}/root"
    with _tree(path) as tree:
        yield tree


@contextmanager
def _tree(path: str) -> Iterator[Tree]:
    root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Tree(root)
    finally:
        os.close(root)


def _own(name: str) -> str:
    with open(f"/proc/self/{name}", "rb") as file:
        return os.fsdecode(file.read(procfs.MAX_MOUNTINFO))
