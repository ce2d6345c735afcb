# SPDX-License-Identifier: Apache-2.0
"""CDI devices in an OCI configuration: which edits a name stands for, and what they change.

The same as the standard's own library, which engines use: tags.cncf.io/container-device-interface
v1.1.1, `Cache.InjectDevices` and `ContainerEdits.Apply`. tests/parity/injection holds the two
against each other. No vendor is known here.

A document is a JSON object as it was parsed. Of a configuration only what is edited is looked at;
all else, fields that nobody knows included, stays as it is. `null` is an absent field, as in Go.
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
"""The stages of the OCI runtime specification, in their order."""
_NODE_TYPES = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
_EDITS = "CDI edits"
_CONFIG = "config.json"


class InjectionError(HookError):
    """An edit that cannot be applied on this host, or by any runtime."""

    code = "CDG-R702"


class UnresolvedError(HookError):
    """Device names that no spec can be found for; none of the devices is injected.

    `absent` are defined nowhere; `conflicting` twice in one directory, which makes them
    unresolvable even where another directory defines them as well.
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
        super().__init__(f"{'; '.join(parts)}; what there is: cdi-gen list --spec-dir DIR")


class NodeStatus:
    """A device node as the host has it; `type` is b, c or p, or empty if it is something else."""

    __slots__ = ("major", "minor", "mode", "type")

    def __init__(self, type_: str, major: int, minor: int, mode: int) -> None:
        self.type = type_
        self.major = major
        self.minor = minor
        self.mode = mode
        """Permission bits, those for set-user-ID and its like included."""


def look_at(path: str) -> NodeStatus:
    """The node at a path of the host; a symbolic link is none.

    Raises:
        OSError, ValueError: there is nothing, or the path is none.
    """
    status = os.lstat(path)
    return NodeStatus(
        _NODE_TYPES.get(stat.S_IFMT(status.st_mode), ""),
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
    )


def resolve(names: Iterable[str], directories: Iterable[Iterable[Document]]) -> list[Document]:
    """The edits that qualified device names stand for, in the order in which they are applied.

    A spec's own edits come before those of its first device, once. A name given twice is applied
    twice. A document that has no kind or no devices defines nothing.

    Args:
        names: `vendor/class=device`.
        directories: the specs of each spec directory; the later directory wins.

    Raises:
        UnresolvedError: names that are not defined, or by two specs of one directory.
        DocumentError: the edits of a device are no object.
    """
    names = list(names)
    wanted = set(names)
    found: dict[str, tuple[Document, Document]] = {}
    conflicting = set()
    for directory in directories:
        here = set()
        for spec in directory:
            for name, device in _devices(spec):
                if name in wanted:
                    if name in here:
                        conflicting.add(name)
                    here.add(name)
                    found[name] = (spec, device)
    once = dict.fromkeys(names)
    absent = [name for name in once if name not in found]
    if absent or conflicting:
        raise UnresolvedError(absent, [name for name in once if name in conflicting])
    edits = []
    begun = set()
    for name in names:
        spec, device = found[name]
        if id(spec) not in begun:
            begun.add(id(spec))
            edits.append(object_of(spec, "containerEdits", "CDI spec"))
        edits.append(object_of(device, "containerEdits", "CDI spec"))
    return edits


def apply(
    config: Document, edits: Iterable[Document], look: Callable[[str], NodeStatus] = look_at
) -> None:
    """Change an OCI configuration in place by `containerEdits` documents, one after the other.

    After an error the configuration may be half changed, as with the library: throw it away.

    Args:
        config: `config.json` of a bundle.
        edits: in the order of `resolve`.
        look: tells what node is at a path of the host, as `look_at` does.

    Raises:
        InjectionError: a device node needs one of the host that is not there or is another; an
            edit names a hook that does not exist.
        DocumentError: a field is not of the type that it must have.
    """
    for each in edits:
        _add_variables(config, texts_of(each, "env", _EDITS))
        for node in objects_of(each, "deviceNodes", _EDITS):
            _add_node(config, node, look)
        for device in objects_of(each, "netDevices", _EDITS):
            moved = object_in(object_in(config, "linux", _CONFIG), "netDevices", _CONFIG)
            moved[text_of(device, "hostInterfaceName", _EDITS)] = _only(
                name=text_of(device, "name", _EDITS)
            )
        _add_mounts(config, objects_of(each, "mounts", _EDITS))
        for hook in objects_of(each, "hooks", _EDITS):
            _add_hook(config, hook)
        if each.get("intelRdt") is not None:
            object_in(config, "linux", _CONFIG)["intelRdt"] = _intel_rdt(
                object_of(each, "intelRdt", _EDITS)
            )
        _add_groups(config, numbers_of(each, "additionalGids", _EDITS))


def _devices(spec: Document) -> Iterator[tuple[str, Document]]:
    kind, devices = spec.get("kind"), spec.get("devices")
    for device in devices if isinstance(devices, list) else ():
        if isinstance(device, dict):
            yield f"{kind}={device.get('name')}", device


def _add_variables(config: Document, variables: list[str]) -> None:
    """A variable that is there gets the new value at its old place."""
    if not variables:
        return
    known = list_in(_process(config), "env", _CONFIG)
    places = {str(entry).partition("=")[0]: place for place, entry in enumerate(known)}
    for variable in variables:
        name = variable.partition("=")[0]
        if name in places:
            known[places[name]] = variable
        else:
            places[name] = len(known)
            known.append(variable)


def _add_node(config: Document, node: Document, look: Callable[[str], NodeStatus]) -> None:
    device = _filled(node, look)
    for key in ("uid", "gid"):
        # A process of an ordinary user could not open a node of root's with mode 0600.
        given = number_of(node, key, _EDITS)
        device[key] = given if given is not None else _of_process(config, key)
        if device[key] is None:
            del device[key]
    linux = object_in(config, "linux", _CONFIG)
    there = list_in(linux, "devices", _CONFIG)
    same = [place for place, other in enumerate(there) if _is_at(other, "path", device["path"])]
    # Of several the first goes and the second is replaced: so the library.
    if len(same) > 1:
        there[same[1]] = device
    else:
        there.append(device)
    if same:
        del there[same[0]]
    if device["type"] in {"b", "c"}:
        permissions = text_of(node, "permissions", _EDITS) or "rwm"
        rule = {key: device[key] for key in ("type", "major", "minor")}
        if permissions != "none":
            rule["access"] = permissions
        list_in(object_in(linux, "resources", _CONFIG), "devices", _CONFIG).append(
            {"allow": True, **rule}
        )


def _filled(node: Document, look: Callable[[str], NodeStatus]) -> Document:
    """The OCI device of a node, without owner; what the spec leaves open is as on the host.

    With a type and a major number (a FIFO needs none) the node may be absent from the host, and
    only its mode is asked for: rootless engines make a bind mount of it.
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
        reason = "is no device node"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no path"
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
    """The user or group of the container's process, unless it is 0."""
    process = object_of(config, "process", _CONFIG)
    return number_of(object_of(process, "user", _CONFIG), key, _CONFIG) or None


def _add_mounts(config: Document, mounts: list[Document]) -> None:
    """Each replaces one at the same place; then parents are mounted before their children."""
    if not mounts:
        return
    there = list_in(config, "mounts", _CONFIG)
    mapped = any(
        space.get("type") == "user"
        for space in objects_of(object_of(config, "linux", _CONFIG), "namespaces", _CONFIG)
    )
    for mount in mounts:
        place = text_of(mount, "containerPath", _EDITS)
        for index, other in enumerate(there):
            if _is_at(other, "destination", place):
                del there[index]
                break
        type_ = text_of(mount, "type", _EDITS)
        options = texts_of(mount, "options", _EDITS)
        if mapped:
            options = _with_mapped_owners(type_, options)
        source = text_of(mount, "hostPath", _EDITS)
        there.append({"destination": place, **_only(type=type_, source=source, options=options)})
    there.sort(key=_depth)


def _with_mapped_owners(type_: str, options: list[str]) -> list[str]:
    """In a user namespace, files keep their owners through a bind mount that maps them."""
    mapping = "idmap" if type_ == "bind" else ""
    for option in options:
        if option in {"idmap", "ridmap"}:
            return options
        if option in {"bind", "rbind"}:
            mapping = "idmap" if option == "bind" else "ridmap"
    return [*options, mapping] if mapping else options


def _depth(mount: object) -> int:
    """How many slashes the destination has when it is written in the shortest way."""
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
        raise InjectionError(f"{_EDITS}: there is no OCI hook {shown(name)}")
    added: Document = {"path": text_of(hook, "path", _EDITS)}
    added.update(_only(args=texts_of(hook, "args", _EDITS), env=texts_of(hook, "env", _EDITS)))
    timeout = number_of(hook, "timeout", _EDITS)
    if timeout is not None:
        added["timeout"] = timeout
    list_in(object_in(config, "hooks", _CONFIG), name, _CONFIG).append(added)


def _intel_rdt(edit: Document) -> Document:
    """Of OCI's settings those that CDI has; they replace all that were there."""
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
    """Group 0 is never added."""
    for group in groups:
        if group != 0:
            user = object_in(_process(config), "user", _CONFIG)
            there = list_in(user, "additionalGids", _CONFIG)
            if group not in there:
                there.append(group)


def _process(config: Document) -> Document:
    """`process`; made as the library makes it, with the fields that runtimes require."""
    if config.get("process") is None:
        config["process"] = {"user": {"uid": 0, "gid": 0}, "cwd": ""}
    return object_in(config, "process", _CONFIG)


def _is_at(item: object, key: str, path: object) -> bool:
    return isinstance(item, dict) and item.get(key) == path


def _only(**fields: object) -> Document:
    """The fields that are not empty: an absent one and an empty one mean the same."""
    return {key: value for key, value in fields.items() if value}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names)
