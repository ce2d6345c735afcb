# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a spec, and what becomes of a container because of it.

``fatal`` is what the standard's own Go library refuses, and so every engine. ``error`` and
``warning`` are what the library lets through and a runtime stumbles over: measured with Podman 4.3
to 6.1, Docker 26 and 28, containerd 1.7 and 2.1, crun and runc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from cdi_gen.cdi import consumers, document, names, schema, versions, wire
from cdi_gen.cdi.model import (
    ContainerEdits,
    Device,
    DeviceNode,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
    Spec,
)
from cdi_gen.cdi.problem import Problem, SpecError
from cdi_runtime.injection import HOOK_NAMES

READ_BY_ALL = "0.5.0"
"""The newest cdiVersion that every engine in use reads (Podman 4.3 of Debian 12 sets it)."""

_WEIGHTS = {"warning": 1, "error": 2, "fatal": 3}
_NODE_TYPES = frozenset({"", "b", "c", "u", "p"})
_NOT_STARTED = "a container with this device does not start"
_LONGEST_CLOS_ID = 4095


def check(document_: object, *, with_schema: bool = True) -> tuple[Problem, ...]:
    """Return everything that is wrong with a document, ordered by place.

    Args:
        document_: what `wire.parse` returned, or a Spec.
        with_schema: ask the standard's JSON schema too (which loads jsonschema).
    """
    if isinstance(document_, Spec):
        document_ = document.to_document(document_)
    try:
        spec, problems = document.read(document_)
    except SpecError as error:
        return error.problems
    problems = _merged(problems, tuple(_of_spec(spec)))
    if with_schema:
        problems = _merged(problems, schema.check(document_))
    return tuple(sorted(problems, key=_place))


def check_text(text: str | bytes, *, with_schema: bool = True) -> tuple[Problem, ...]:
    """Return everything that is wrong with a spec's text, as `check` does for its document."""
    try:
        return check(wire.parse(text), with_schema=with_schema)
    except SpecError as error:
        return error.problems


def _merged(known: tuple[Problem, ...], more: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Add what is new or worse: whoever sees a fault first explains it best."""
    worst: dict[str, int] = {}
    for problem in known:
        worst[problem.path] = max(worst.get(problem.path, 0), _WEIGHTS[problem.severity])
    return known + tuple(
        problem for problem in more if _WEIGHTS[problem.severity] > worst.get(problem.path, 0)
    )


def _place(problem: Problem) -> tuple[tuple[int, int | str], ...]:
    parts = re.split(r"\[([0-9]+)\]", problem.path)
    return tuple((0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts))


Found = Iterator[Problem]


def _fatal(path: str, message: str) -> Problem:
    return Problem(path=path, message=message)


def _error(path: str, message: str, consequence: str = _NOT_STARTED) -> Problem:
    return Problem(path=path, message=message, consequence=consequence, severity="error")


def _warning(path: str, message: str, consequence: str) -> Problem:
    return Problem(path=path, message=message, consequence=consequence, severity="warning")


def _of_spec(spec: Spec) -> Found:
    yield from _of_version(spec)
    yield from _of_name(".kind", names.parse_kind, spec.kind)
    if "/" in spec.kind and any(len(part) == 1 for part in spec.kind.split("/")):
        # Seen with the library at 0.6.2, 0.8.1 and 1.0.1: "slice bounds out of range [1:0]".
        message = f"{spec.kind!r} has a vendor or a class of a single letter"
        yield _error(
            ".kind", message, "engines with a CDI library before 1.1.0 crash over the file"
        )
    if not spec.devices:
        yield _fatal(".devices", "there is no device")
    first: dict[str, int] = {}
    for index, device in enumerate(spec.devices):
        path = f".devices[{index}]"
        yield from _of_device(path, device)
        if device.name in first:
            message = f"{device.name!r} is already the name of .devices[{first[device.name]}]"
            yield _fatal(f"{path}.name", message)
        first.setdefault(device.name, index)
    yield from _of_edits(".containerEdits", spec.container_edits)


def _of_version(spec: Spec) -> Found:
    path = ".cdiVersion"
    claimed = spec.cdi_version.removeprefix("v")
    if not versions.is_known(claimed):
        known = ", ".join(versions.KNOWN_VERSIONS)
        yield _fatal(path, f"{spec.cdi_version!r} is no version of CDI; there are {known}")
        return
    needed = versions.minimum_version(spec)
    if versions.compare(claimed, needed) < 0:
        why = [what for version, what in versions.reasons(spec) if version == needed]
        reason = f" for {' and '.join(why)}" if why else ", the earliest that engines still read"
        yield _fatal(path, f"claims {claimed}, but needs {needed}{reason}")
    elif claimed != spec.cdi_version:
        yield _warning(path, "starts with 'v'", "the standard has no 'v'; engines pass it over")
    elif versions.compare(claimed, READ_BY_ALL) > 0:
        floors = ", ".join(map(str, consumers.first_to_accept(claimed)))
        lower = f"; {needed} would do" if needed != claimed else ""
        consequence = f"read only by these and later releases: {floors}"
        yield _warning(path, f"claims {claimed}{lower}", consequence)


def _of_device(path: str, device: Device) -> Found:
    yield from _of_name(f"{path}.name", names.check_device, device.name)
    if not device.container_edits:
        yield _fatal(f"{path}.containerEdits", "is empty: a device has to change something")
    yield from _of_edits(f"{path}.containerEdits", device.container_edits)


def _of_name(path: str, parse: Callable[[str], object], name: str) -> Found:
    try:
        parse(name)
    except names.BadNameError as error:
        yield _fatal(path, str(error))


def _of_edits(path: str, edits: ContainerEdits) -> Found:
    yield from _of_env(f"{path}.env", edits.env)
    for index, node in enumerate(edits.device_nodes):
        yield from _of_node(f"{path}.deviceNodes[{index}]", node)
    yield from _of_net_devices(f"{path}.netDevices", edits.net_devices)
    for index, hook in enumerate(edits.hooks):
        yield from _of_hook(f"{path}.hooks[{index}]", hook)
    mounted: dict[str, int] = {}
    for index, mount in enumerate(edits.mounts):
        where = f"{path}.mounts[{index}]"
        yield from _of_mount(where, mount)
        if mount.container_path in mounted:
            message = f"mounts[{mounted[mount.container_path]}] already is at this place"
            yield _warning(f"{where}.containerPath", message, "only the later one is mounted")
        mounted[mount.container_path] = index
    yield from _of_untyped_mounts(f"{path}.mounts", edits.mounts)
    if edits.intel_rdt is not None:
        yield from _of_intel_rdt(f"{path}.intelRdt", edits.intel_rdt)
    if edits.additional_gids:
        yield from _of_additional_gids(f"{path}.additionalGids", edits.additional_gids)


def _of_env(path: str, env: tuple[str, ...]) -> Found:
    for index, variable in enumerate(env):
        if variable.find("=") <= 0:
            yield _fatal(f"{path}[{index}]", f"{variable!r} is not of the form NAME=value")
        elif "\0" in variable:
            yield _error(f"{path}[{index}]", "has a zero byte")


def _of_node(path: str, node: DeviceNode) -> Found:
    yield from _of_path(f"{path}.path", node.path)
    if node.host_path:
        yield from _of_path(f"{path}.hostPath", node.host_path)
    if node.type not in _NODE_TYPES:
        yield _fatal(f"{path}.type", f"{node.type!r} is none of b, c, u and p")
    else:
        given = {"type": node.type, "major": node.major or node.type == "p"}
        if absent := " and ".join(key for key, value in given.items() if not value):
            consequence = "a container does not start while the host has no such node"
            yield _warning(path, f"{node.path} is without {absent}", consequence)
    if node.permissions != "none" and node.permissions.strip("rwm"):
        message = f"{node.permissions!r} is neither 'none' nor made of the letters r, w and m"
        yield _fatal(f"{path}.permissions", message)
    elif node.permissions == "none":
        consequence = "engines with a CDI library before 1.1.0 ignore the whole file"
        yield _warning(f"{path}.permissions", "'none' is new", consequence)
    if node.file_mode is not None and node.file_mode > 0o7777:
        message = f"{node.file_mode} is more than permission bits (0o7777 is {0o7777})"
        yield _warning(f"{path}.fileMode", message, "the other bits are dropped or refused")


def _of_net_devices(path: str, devices: tuple[NetDevice, ...]) -> Found:
    for key, values in (
        ("hostInterfaceName", [device.host_interface_name for device in devices]),
        ("name", [device.name for device in devices]),
    ):
        for index, value in enumerate(values):
            if not value:
                yield _fatal(f"{path}[{index}].{key}", "is empty")
            elif values.index(value) < index:
                message = f"{value!r} is already in netDevices[{values.index(value)}]"
                yield _fatal(f"{path}[{index}].{key}", message)


def _of_hook(path: str, hook: Hook) -> Found:
    if hook.hook_name not in HOOK_NAMES:
        message = f"{hook.hook_name!r} is none of {', '.join(HOOK_NAMES)}"
        yield _fatal(f"{path}.hookName", message)
    yield from _of_path(
        f"{path}.path", hook.path, f"runc refuses it: {_NOT_STARTED}; crun runs the program"
    )
    yield from _of_env(f"{path}.env", hook.env)
    if not hook.env:
        yield _warning(
            f"{path}.env",
            "the hook has no environment of its own",
            "runc before 1.3 gives it the container's, LD_PRELOAD included: with a createContainer "
            "hook, an image can run its code as root on the host",
        )
    if hook.timeout is not None and hook.timeout <= 0:
        message = f"{hook.timeout} is not a number of seconds above 0"
        yield _warning(f"{path}.timeout", message, "the OCI runtime specification forbids it")


def _of_mount(path: str, mount: Mount) -> Found:
    yield from _of_path(f"{path}.containerPath", mount.container_path)
    if mount.type in {"", "bind"} and not {"bind", "rbind"}.intersection(mount.options):
        yield _error(f"{path}.options", "neither 'bind' nor 'rbind' is among them")
    if mount.type in {"", "bind", "none"}:
        yield from _of_path(f"{path}.hostPath", mount.host_path)
    elif not mount.host_path:
        yield _fatal(f"{path}.hostPath", "is empty")


def _of_untyped_mounts(path: str, mounts: tuple[Mount, ...]) -> Found:
    """Told once: a driver has a hundred files."""
    untyped = [index for index, mount in enumerate(mounts) if not mount.type]
    if untyped:
        yield _warning(
            path,
            f"{len(untyped)} of {len(mounts)} do not say 'type: bind'",
            "crun crashes when the container joins another one's user namespace, as in a pod "
            "(crun#1948)",
        )


def _of_intel_rdt(path: str, intel_rdt: IntelRdt) -> Found:
    clos = intel_rdt.clos_id
    if clos != "/" and (
        len(clos.encode(errors="replace")) > _LONGEST_CLOS_ID
        or clos in {".", ".."}
        or "/" in clos
        or "\n" in clos
    ):
        yield _fatal(f"{path}.closID", f"{clos[:80]!r} cannot be the name of a file")
    yield _warning(
        path,
        "asks for Intel RDT",
        "with crun a container does not start on a host without resctrl; runc passes it over",
    )


def _of_additional_gids(path: str, gids: tuple[int, ...]) -> Found:
    if 0 in gids:
        yield _warning(f"{path}[{gids.index(0)}]", "group 0", "engines leave it out")
    dropping = dict.fromkeys(
        consumer.name for consumer in consumers.consumers() if consumer.additional_gids == "dropped"
    )
    consequence = f"silently dropped by {', '.join(dropping)}: no process gets these groups there"
    yield _warning(path, "adds groups to the container's process", consequence)


def _of_path(path: str, value: str, relative: str = _NOT_STARTED) -> Found:
    if not value:
        yield _fatal(path, "is empty")
    elif "\0" in value:
        yield _error(path, "has a zero byte")
    elif not value.startswith("/"):
        yield _error(path, f"{value!r} is not absolute", relative)
