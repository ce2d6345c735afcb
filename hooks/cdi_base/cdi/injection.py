# SPDX-License-Identifier: Apache-2.0
"""Injects CDI devices into an OCI configuration: finds the edits of device names, and applies them.

The results equal those of the standard's own library, which engines use
(tags.cncf.io/container-device-interface v1.1.1, `Cache.InjectDevices` and `ContainerEdits.Apply`);
tests/parity/injection compares the two. This module is the same for all vendors.

A document is a JSON object as it was parsed. Only the edited fields of a configuration are read;
all others, unknown ones included, stay as they are. `null` is an absent field, as in Go.
"""

from __future__ import annotations

import os
import stat

from cdi_base.errors import HookError, shown
from cdi_base.json_object import (
    list_in,
    number_of,
    numbers_of,
    object_in,
    object_of,
    objects_of,
    text_of,
    texts_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Document = dict[str, object]

HOOK_NAMES = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
"""The hooks of the OCI runtime specification, in their order."""
_NODE_TYPES = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
_EDITS = "CDI edits"
_CONFIG = "config.json"


class InjectionError(HookError):
    """An edit that cannot be applied on this host, or that no runtime can apply."""

    code = "CDG-R702"


class UnresolvedError(HookError):
    """Device names that cannot be resolved; no device is injected.

    No spec defines the `absent` names. Two specs of one directory define the `conflicting` names,
    which are unresolvable even if another directory defines them too.
    """

    code = "CDG-R204"

    def __init__(self, absent: Sequence[str], conflicting: Sequence[str]) -> None:
        self.absent = tuple(absent)
        self.conflicting = tuple(conflicting)
        parts = []
        if absent:
            parts.append(f"no CDI spec defines {_listed(absent)}")
        if conflicting:
            parts.append(f"more than one CDI spec of a directory defines {_listed(conflicting)}")
        super().__init__(
            f"{'; '.join(parts)}; for the defined devices see: cdi-gen list --spec-dir DIR"
        )


class NodeStatus:
    """A device node of the host; `type` is b, c or p, or empty for another kind of file."""

    __slots__ = ("major", "minor", "mode", "type")

    def __init__(self, type_: str, major: int, minor: int, mode: int) -> None:
        self.type = type_
        self.major = major
        self.minor = minor
        self.mode = mode
        """Permission bits, including set-user-ID, set-group-ID and the sticky bit."""


def look_at(path: str) -> NodeStatus:
    """Return the node at a path of the host; symbolic links are not followed.

    Raises:
        OSError, ValueError: the path does not exist, or is not a path.
    """
    status = os.lstat(path)
    return NodeStatus(
        _NODE_TYPES.get(stat.S_IFMT(status.st_mode), ""),
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
    )


def resolve(names: Iterable[str], directories: Iterable[Iterable[Document]]) -> list[Document]:
    """Return the edits of qualified device names, in the order of their application.

    A spec's own edits come before those of its first device, once. The edits of a name that
    is given twice are applied twice. A document without kind or devices defines no device.

    Args:
        names: `vendor/class=device`.
        directories: the specs of each spec directory; the later directory wins.

    Raises:
        UnresolvedError: names that no spec defines, or that two specs of one directory define.
        DocumentError: the edits of a device are not an object.
    """
    names = list(names)
    requested = set(names)
    definitions: dict[str, tuple[Document, Document]] = {}
    conflicting = set()
    for directory in directories:
        names_in_directory = set()
        for spec in directory:
            for name, device in _devices(spec):
                if name in requested:
                    if name in names_in_directory:
                        conflicting.add(name)
                    names_in_directory.add(name)
                    definitions[name] = (spec, device)
    distinct = dict.fromkeys(names)
    absent = [name for name in distinct if name not in definitions]
    if absent or conflicting:
        raise UnresolvedError(absent, [name for name in distinct if name in conflicting])
    edits = []
    applied_specs = set()
    for name in names:
        spec, device = definitions[name]
        if id(spec) not in applied_specs:
            applied_specs.add(id(spec))
            edits.append(object_of(spec, "containerEdits", "CDI spec"))
        edits.append(object_of(device, "containerEdits", "CDI spec"))
    return edits


def apply(
    config: Document, edits: Iterable[Document], look: Callable[[str], NodeStatus] = look_at
) -> None:
    """Change an OCI configuration in place by `containerEdits` documents, one after the other.

    After an error the configuration may be partly changed, as with the library; discard it.

    Args:
        config: `config.json` of a bundle.
        edits: in the order of `resolve`.
        look: returns the node at a path of the host, as `look_at` does.

    Raises:
        InjectionError: a device node of the host is missing or has another type; an edit names an
            OCI hook that does not exist.
        DocumentError: a field has a value of the wrong type.
    """
    for container_edits in edits:
        _add_variables(config, texts_of(container_edits, "env", _EDITS))
        for node in objects_of(container_edits, "deviceNodes", _EDITS):
            _add_node(config, node, look)
        for device in objects_of(container_edits, "netDevices", _EDITS):
            net_devices = object_in(object_in(config, "linux", _CONFIG), "netDevices", _CONFIG)
            net_devices[text_of(device, "hostInterfaceName", _EDITS)] = _only(
                name=text_of(device, "name", _EDITS)
            )
        _add_mounts(config, objects_of(container_edits, "mounts", _EDITS))
        for hook in objects_of(container_edits, "hooks", _EDITS):
            _add_hook(config, hook)
        if container_edits.get("intelRdt") is not None:
            object_in(config, "linux", _CONFIG)["intelRdt"] = _intel_rdt(
                object_of(container_edits, "intelRdt", _EDITS)
            )
        _add_groups(config, numbers_of(container_edits, "additionalGids", _EDITS))


def _devices(spec: Document) -> Iterator[tuple[str, Document]]:
    kind, devices = spec.get("kind"), spec.get("devices")
    for device in devices if isinstance(devices, list) else ():
        if isinstance(device, dict):
            yield f"{kind}={device.get('name')}", device


def _add_variables(config: Document, variables: list[str]) -> None:
    """Add variables; one that exists gets the new value at its old position."""
    if not variables:
        return
    entries = list_in(_process(config), "env", _CONFIG)
    positions = {str(entry).partition("=")[0]: index for index, entry in enumerate(entries)}
    for variable in variables:
        name = variable.partition("=")[0]
        if name in positions:
            entries[positions[name]] = variable
        else:
            positions[name] = len(entries)
            entries.append(variable)


def _add_node(config: Document, node: Document, look: Callable[[str], NodeStatus]) -> None:
    device = _filled(node, look)
    for key in ("uid", "gid"):
        # The default is the user of the process, who could not open a node of root with mode 0600.
        number = number_of(node, key, _EDITS)
        device[key] = number if number is not None else _of_process(config, key)
        if device[key] is None:
            del device[key]
    linux = object_in(config, "linux", _CONFIG)
    devices = list_in(linux, "devices", _CONFIG)
    duplicates = [
        index for index, other in enumerate(devices) if _is_at(other, "path", device["path"])
    ]
    # Of several duplicates the library removes the first and replaces the second.
    if len(duplicates) > 1:
        devices[duplicates[1]] = device
    else:
        devices.append(device)
    if duplicates:
        del devices[duplicates[0]]
    if device["type"] in {"b", "c"}:
        permissions = text_of(node, "permissions", _EDITS) or "rwm"
        rule = {key: device[key] for key in ("type", "major", "minor")}
        if permissions != "none":
            rule["access"] = permissions
        list_in(object_in(linux, "resources", _CONFIG), "devices", _CONFIG).append(
            {"allow": True, **rule}
        )


def _filled(node: Document, look: Callable[[str], NodeStatus]) -> Document:
    """Return the OCI device of a node, without owner; missing fields are taken from the host.

    A node with a type and a major number (a FIFO needs none) may be absent from the host; only its
    mode is taken from there. Rootless engines mount such a node from the host.
    """
    path = text_of(node, "path", _EDITS)
    type_ = text_of(node, "type", _EDITS)
    major = number_of(node, "major", _EDITS) or 0
    minor = number_of(node, "minor", _EDITS) or 0
    mode = number_of(node, "fileMode", _EDITS)
    complete = type_ != "" and (major != 0 or type_ == "p")
    host = text_of(node, "hostPath", _EDITS) or path
    status = None
    try:
        status = look(host)
        reason = "not a device node"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
    if status and status.type:
        mode = status.mode if mode is None else mode
    elif not complete:
        raise InjectionError(
            f"device node {shown(path)} needs {shown(host)} of the host: {reason}", code="CDG-R701"
        )
    if status and not complete:
        type_ = type_ or status.type
        if type_ != status.type:
            raise InjectionError(
                f"device node {shown(path)} is of type {shown(type_)[1:-1]} in the CDI spec, and "
                f"{shown(host)} of the host of type {status.type}",
                code="CDG-R701",
            )
        if type_ != "p" and major == 0:
            major, minor = status.major, status.minor
    filled: Document = {"path": path, "type": type_, "major": major, "minor": minor}
    return filled if mode is None else {**filled, "fileMode": mode}


def _of_process(config: Document, key: str) -> int | None:
    """Return the user or group of the container's process; None if it is 0."""
    process = object_of(config, "process", _CONFIG)
    return number_of(object_of(process, "user", _CONFIG), key, _CONFIG) or None


def _add_mounts(config: Document, mounts: list[Document]) -> None:
    """Add mounts, each instead of one at the same path; then sort parents before children."""
    if not mounts:
        return
    existing = list_in(config, "mounts", _CONFIG)
    has_user_namespace = any(
        space.get("type") == "user"
        for space in objects_of(object_of(config, "linux", _CONFIG), "namespaces", _CONFIG)
    )
    for mount in mounts:
        destination = text_of(mount, "containerPath", _EDITS)
        for index, other in enumerate(existing):
            if _is_at(other, "destination", destination):
                del existing[index]
                break
        type_ = text_of(mount, "type", _EDITS)
        options = texts_of(mount, "options", _EDITS)
        if has_user_namespace:
            options = _with_mapped_owners(type_, options)
        source = text_of(mount, "hostPath", _EDITS)
        fields = _only(type=type_, source=source, options=options)
        existing.append({"destination": destination, **fields})
    existing.sort(key=_depth)


def _with_mapped_owners(type_: str, options: list[str]) -> list[str]:
    """Return mount options by which files of a bind mount keep their owners in a user namespace."""
    mapping = "idmap" if type_ == "bind" else ""
    for option in options:
        if option in {"idmap", "ridmap"}:
            return options
        if option in {"bind", "rbind"}:
            mapping = "idmap" if option == "bind" else "ridmap"
    return [*options, mapping] if mapping else options


def _depth(mount: object) -> int:
    """Return the number of slashes in the shortest form of the destination."""
    path = text_of(mount, "destination", _CONFIG) if isinstance(mount, dict) else ""
    absolute = path.startswith("/")
    names: list[str] = []
    for name in path.split("/"):
        if name == ".." and names and names[-1] != "..":
            names.pop()
        elif name not in {"", ".", ".."} or (name == ".." and not absolute):
            names.append(name)
    return max(1, len(names)) if absolute else max(0, len(names) - 1)


def _add_hook(config: Document, hook: Document) -> None:
    name = text_of(hook, "hookName", _EDITS)
    if name not in HOOK_NAMES:
        raise InjectionError(f"{_EDITS}: unknown OCI hook {shown(name)}")
    oci_hook: Document = {"path": text_of(hook, "path", _EDITS)}
    oci_hook.update(_only(args=texts_of(hook, "args", _EDITS), env=texts_of(hook, "env", _EDITS)))
    timeout = number_of(hook, "timeout", _EDITS)
    if timeout is not None:
        oci_hook["timeout"] = timeout
    list_in(object_in(config, "hooks", _CONFIG), name, _CONFIG).append(oci_hook)


def _intel_rdt(edit: Document) -> Document:
    """Return the settings of OCI that CDI has; they replace all existing ones."""
    return _only(
        closID=text_of(edit, "closID", _EDITS),
        schemata=texts_of(edit, "schemata", _EDITS),
        l3CacheSchema=text_of(edit, "l3CacheSchema", _EDITS),
        memBwSchema=text_of(edit, "memBwSchema", _EDITS),
        enableMonitoring=edit.get("enableMonitoring") is True,
        enableCMT=edit.get("enableCMT") is True,
        enableMBM=edit.get("enableMBM") is True,
    )


def _add_groups(config: Document, groups: list[int]) -> None:
    """Add groups, except group 0."""
    for group in groups:
        if group != 0:
            user = object_in(_process(config), "user", _CONFIG)
            existing = list_in(user, "additionalGids", _CONFIG)
            if group not in existing:
                existing.append(group)


def _process(config: Document) -> Document:
    """Return `process`; a missing one is created with the fields that runtimes require."""
    if config.get("process") is None:
        config["process"] = {"user": {"uid": 0, "gid": 0}, "cwd": ""}
    return object_in(config, "process", _CONFIG)


def _is_at(item: object, key: str, path: object) -> bool:
    return isinstance(item, dict) and item.get(key) == path


def _only(**fields: object) -> Document:
    """Return the fields that are not empty; an empty field means the same as an absent one."""
    return {key: value for key, value in fields.items() if value}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names)
