# SPDX-License-Identifier: Apache-2.0
"""The facts about a container and its host, from which its faults follow; pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from cdi_base import PRESTART_HOOK, nvidia
from cdi_gen.cdi.model import ContainerEdits
from cdi_gen.containers.examination import Examination
from cdi_gen.containers.loader import environment
from cdi_gen.containers.model import ContainerNode
from cdi_gen.inventory import CharDevice, Inventory
from cdi_gen.store import Registry

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
"""Names that engines accept; another one is not put into a command."""
_CDI_ANNOTATION = "cdi.k8s.io/"
_NO_DEVICES = frozenset({"", "void", "none"})

PRESTART_HOOKS = frozenset({nvidia.PRESTART_HOOK, nvidia.OLD_PRESTART_HOOK, PRESTART_HOOK})


class Host(NamedTuple):
    """What matters of the host."""

    inventory: Inventory | None
    """None: no driver, or it cannot be seen."""
    registry: Registry
    is_there: Callable[[str], bool]
    """Whether a path of the host leads to anything."""


class Node(NamedTuple):
    """A device node in the configuration of a container."""

    path: str
    kind: str
    major: int
    minor: int


class Facts(NamedTuple):
    """A container on a host."""

    examination: Examination
    host: Host
    names: tuple[str, ...]
    """The CDI devices that it was given, as far as its configuration tells."""
    source: str
    """How the names are known."""
    edits: ContainerEdits
    """What the installed specs say for these devices; empty if there are none."""
    spec_files: tuple[str, ...]

    @property
    def nodes(self) -> tuple[ContainerNode, ...]:
        """The nodes in its /dev."""
        container = self.examination.container
        return container.nodes if container else ()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its first process, by config.json."""
        return environment(self.examination.configuration)

    @property
    def requested_by_variable(self) -> str:
        """The value of NVIDIA_VISIBLE_DEVICES; empty if it asks for nothing."""
        value = self.environment.get("NVIDIA_VISIBLE_DEVICES", "")
        return "" if value in _NO_DEVICES else value

    @property
    def title(self) -> str:
        """What the container is called in commands."""
        origin = self.examination.origin
        names = (origin.name, origin.id, posixpath.basename(origin.bundle))
        return next((name for name in names if _NAME.fullmatch(name)), "NAME")


def facts(examination: Examination, host: Host) -> Facts:
    """Return the facts about a container."""
    configuration = examination.configuration
    names = [*_annotated(configuration)]
    source = "its annotations"
    if not names:
        paths = {node.path for node in configured_nodes(configuration)}
        names = [*_by_nodes(paths, host.registry)]
        source = "its device nodes"
    edits, files = ContainerEdits(), []
    for name in names:
        resolution = host.registry.find(name)
        if resolution is None or resolution.file is None or resolution.file.spec is None:
            continue
        spec = resolution.file.spec
        device = next(one for one in spec.devices if f"{spec.kind}={one.name}" == name)
        edits = edits | spec.container_edits | device.container_edits
        files.append(resolution.file.path)
    return Facts(
        examination,
        host,
        tuple(names),
        source if names else "",
        edits,
        tuple(dict.fromkeys(files)),
    )


def host_devices(inventory: Inventory | None) -> dict[str, CharDevice]:
    """Return the driver's nodes of the host, by path, with the numbers that the kernel has now."""
    if inventory is None:
        return {}
    devices = [*inventory.control_nodes, *(node for gpu in inventory.gpus for node in gpu.nodes)]
    for device in inventory.mig_devices:
        devices += (device.gpu_instance_cap, device.compute_instance_cap)
    return {device.path: device for device in devices}


def is_driver_node(path: str) -> bool:
    """Whether a path is that of a node of NVIDIA's driver."""
    return path.startswith("/dev/nvidia") or path == "/dev/dxg"


def configured_nodes(configuration: dict[str, Any]) -> list[Node]:
    """Return the device nodes of a config.json; entries of another form are left out."""
    nodes = []
    for entry in _objects(_object(configuration, "linux").get("devices")):
        path, kind = entry.get("path"), entry.get("type")
        if isinstance(path, str) and isinstance(kind, str):
            nodes.append(Node(path, kind, _number(entry, "major"), _number(entry, "minor")))
    return nodes


def was_allowed(configuration: dict[str, Any], node: ContainerNode) -> bool:
    """Whether the configuration lets the container open a node."""
    if any(
        (one.kind, one.major, one.minor) == (node.kind, node.major, node.minor)
        for one in configured_nodes(configuration)
    ):
        return True  # runtimes allow the nodes that they create
    allowed = False
    resources = _object(_object(configuration, "linux"), "resources")
    for rule in _objects(resources.get("devices")):
        is_match = (
            rule.get("type") in {None, "a", node.kind}
            and rule.get("major") in {None, -1, node.major}
            and rule.get("minor") in {None, -1, node.minor}
        )
        if is_match and {"r", "w"} <= set(str(rule.get("access") or "")):
            allowed = rule.get("allow") is True
    return allowed


def configured_mounts(configuration: dict[str, Any]) -> list[tuple[str, str]]:
    """Return source and destination of the bind mounts of a config.json."""
    pairs = []
    for entry in _objects(configuration.get("mounts")):
        source, destination, options = (
            entry.get(key) for key in ("source", "destination", "options")
        )
        is_bind = entry.get("type") == "bind" or (
            isinstance(options, list) and not {"bind", "rbind"}.isdisjoint(map(str, options))
        )
        if is_bind and isinstance(source, str) and isinstance(destination, str):
            pairs.append((source, destination))
    return pairs


def hooks(configuration: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield stage, program and arguments of each hook of a config.json."""
    for stage, entries in _object(configuration, "hooks").items():
        for entry in _objects(entries):
            path, args = entry.get("path"), entry.get("args")
            if isinstance(path, str):
                yield stage, path, [str(word) for word in args] if isinstance(args, list) else []


def prestart_hook(configuration: dict[str, Any]) -> str:
    """Return the program of the hook that gives GPUs behind the runtime's back; empty: none."""
    for stage, path, words in hooks(configuration):
        names = {posixpath.basename(path), *(posixpath.basename(word) for word in words[:1])}
        if stage in {"prestart", "createRuntime"} and not PRESTART_HOOKS.isdisjoint(names):
            return path
    return ""


def _annotated(configuration: dict[str, Any]) -> Iterator[str]:
    for key, value in _object(configuration, "annotations").items():
        if key.startswith(_CDI_ANNOTATION) and isinstance(value, str):
            yield from filter(None, value.split(","))


def _by_nodes(paths: set[str], registry: Registry) -> Iterator[str]:
    """Yield the fewest devices of NVIDIA's specs whose own nodes are all in a container."""
    candidates: list[tuple[int, str, frozenset[str]]] = []
    for resolution in registry.devices:
        spec = resolution.file.spec if resolution.file else None
        if spec is None or not spec.kind.startswith("nvidia.com/"):
            continue
        for device in spec.devices:
            nodes = frozenset(node.path for node in device.container_edits.device_nodes)
            if nodes and nodes <= paths and resolution.name == f"{spec.kind}={device.name}":
                candidates.append((-len(nodes), resolution.name, nodes))
    covered: set[str] = set()
    for _, name, nodes in sorted(candidates):
        if not nodes <= covered:
            covered |= nodes
            yield name


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(document: dict[str, Any], key: str) -> int:
    value = document.get(key)
    return value if isinstance(value, int) else 0
