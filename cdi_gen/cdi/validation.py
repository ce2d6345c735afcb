# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a spec, and what becomes of a container because of it.

``fatal`` is what the standard's own Go library refuses, and so every engine. ``error`` and
``warning`` are what the library lets through and a runtime stumbles over: measured with Podman 4.3
to 6.1, Docker 26 and 28, containerd 1.7 and 2.1, crun and runc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cdi_base.cdi import specification
from cdi_gen.cdi import consumers, document, schema, versions, wire
from cdi_gen.cdi.model import ContainerEdits, DeviceNode, Hook, Mount, Spec
from cdi_gen.cdi.problem import Problem, SpecError

READ_BY_ALL = "0.5.0"
"""The newest cdiVersion that every engine in use reads (Podman 4.3 of Debian 12 sets it)."""

_ODD_IN_NAMES = frozenset(" \t\n\"'`/#$")

_WEIGHTS = {"warning": 1, "error": 2, "fatal": 3}
_NOT_STARTED = "a container with this device does not start"


def check(
    document_: object,
    of_text: Sequence[specification.Fault] = (),
    *,
    with_schema: bool = True,
) -> tuple[Problem, ...]:
    """Return everything that is wrong with a document, ordered by place.

    Args:
        document_: what `wire.read` returned, or a Spec.
        of_text: what `wire.read` found wrong with the text.
        with_schema: ask the standard's JSON schema too (which loads jsonschema).
    """
    if isinstance(document_, Spec):
        document_ = document.to_document(document_)
    try:
        known, faults = specification.judge(document_, of_text)
    except specification.TooMuchError as error:
        return tuple(map(document.problem, error.faults))
    spec = document.build(known)
    problems = tuple(filter(None, (_told(fault, spec) for fault in faults)))
    problems = _merged(problems, tuple(_of_spec(spec)))
    if with_schema:
        problems = _merged(problems, schema.check(document_))
    return tuple(sorted(problems, key=_place))


def check_text(text: str | bytes, *, with_schema: bool = True) -> tuple[Problem, ...]:
    """Return everything that is wrong with a spec's text, as `check` does for its document."""
    try:
        return check(*wire.read(text), with_schema=with_schema)
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


def _error(path: str, message: str, consequence: str = _NOT_STARTED, *, code: str) -> Problem:
    return Problem(path=path, message=message, code=code, consequence=consequence, severity="error")


def _warning(path: str, message: str, consequence: str, *, code: str) -> Problem:
    return Problem(
        path=path, message=message, code=code, consequence=consequence, severity="warning"
    )


def _of_spec(spec: Spec) -> Found:
    if spec.cdi_version.startswith("v"):
        consequence = "the standard has no 'v'; engines pass it over"
        yield _warning(".cdiVersion", "starts with 'v'", consequence, code="CDG-S304")
    for index, device in enumerate(spec.devices):
        yield from _of_edits(f".devices[{index}].containerEdits", device.container_edits)
    yield from _of_edits(".containerEdits", spec.container_edits)


def _told(fault: specification.Fault, spec: Spec) -> Problem | None:
    """The problem that a fault is; None where it is not worth a word."""
    problem = document.problem(fault)
    if fault.path == ".cdiVersion" and fault.slight:
        claimed = spec.cdi_version.removeprefix("v")
        if versions.compare(claimed, READ_BY_ALL) <= 0:
            return None
        floors = ", ".join(map(str, consumers.first_to_accept(claimed)))
        return problem._replace(consequence=f"read only by these and later releases: {floors}")
    return problem


def _of_edits(path: str, edits: ContainerEdits) -> Found:
    yield from _of_env(f"{path}.env", edits.env)
    for index, node in enumerate(edits.device_nodes):
        yield from _of_node(f"{path}.deviceNodes[{index}]", node)
    for index, hook in enumerate(edits.hooks):
        yield from _of_hook(f"{path}.hooks[{index}]", hook)
    mounted: dict[str, int] = {}
    for index, mount in enumerate(edits.mounts):
        where = f"{path}.mounts[{index}]"
        yield from _of_mount(where, mount)
        if mount.container_path in mounted:
            message = f"mounts[{mounted[mount.container_path]}] already is at this place"
            yield _warning(
                f"{where}.containerPath", message, "only the later one is mounted", code="CDG-S412"
            )
        mounted[mount.container_path] = index
    yield from _of_untyped_mounts(f"{path}.mounts", edits.mounts)
    if edits.intel_rdt is not None:
        yield from _of_intel_rdt(f"{path}.intelRdt")
    if edits.additional_gids:
        yield from _of_additional_gids(f"{path}.additionalGids", edits.additional_gids)


def _of_env(path: str, env: tuple[str, ...]) -> Found:
    for index, variable in enumerate(env):
        name = variable.partition("=")[0]
        if "\0" in variable:
            yield _error(f"{path}[{index}]", "has a zero byte", code="CDG-S401")
        elif not _ODD_IN_NAMES.isdisjoint(name):
            message = f"{name!r} is no name that a program would look for"
            consequence = "the variable is there under this name: were quotes or a comment meant?"
            yield _warning(f"{path}[{index}]", message, consequence, code="CDG-S402")


def _of_node(path: str, node: DeviceNode) -> Found:
    yield from _of_path(f"{path}.path", node.path)
    if node.host_path:
        yield from _of_path(f"{path}.hostPath", node.host_path)
    given = {"type": node.type, "major": node.major or node.type == "p"}
    if absent := " and ".join(key for key, value in given.items() if not value):
        consequence = "a container does not start while the host has no such node"
        yield _warning(path, f"{node.path} is without {absent}", consequence, code="CDG-S405")
    if node.file_mode is not None and node.file_mode > 0o7777:
        message = f"{node.file_mode} is more than permission bits (0o7777 is {0o7777})"
        yield _warning(
            f"{path}.fileMode", message, "the other bits are dropped or refused", code="CDG-S406"
        )


def _of_hook(path: str, hook: Hook) -> Found:
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
            code="CDG-S409",
        )
    if hook.timeout is not None and hook.timeout <= 0:
        message = f"{hook.timeout} is not a number of seconds above 0"
        yield _warning(
            f"{path}.timeout", message, "the OCI runtime specification forbids it", code="CDG-S410"
        )


def _of_mount(path: str, mount: Mount) -> Found:
    yield from _of_path(f"{path}.containerPath", mount.container_path)
    if mount.type in {"", "bind"} and not {"bind", "rbind"}.intersection(mount.options):
        yield _error(f"{path}.options", "neither 'bind' nor 'rbind' is among them", code="CDG-S411")
    if mount.type in {"", "bind", "none"}:
        yield from _of_path(f"{path}.hostPath", mount.host_path)


def _of_untyped_mounts(path: str, mounts: tuple[Mount, ...]) -> Found:
    """Told once: a driver has a hundred files."""
    untyped = [index for index, mount in enumerate(mounts) if not mount.type]
    if untyped:
        yield _warning(
            path,
            f"{len(untyped)} of {len(mounts)} do not say 'type: bind'",
            "crun crashes when the container joins another one's user namespace, as in a pod "
            "(crun#1948)",
            code="CDG-S413",
        )


def _of_intel_rdt(path: str) -> Found:
    yield _warning(
        path,
        "asks for Intel RDT",
        "with crun a container does not start on a host without resctrl; runc passes it over",
        code="CDG-S415",
    )


def _of_additional_gids(path: str, gids: tuple[int, ...]) -> Found:
    if 0 in gids:
        yield _warning(
            f"{path}[{gids.index(0)}]", "group 0", "engines leave it out", code="CDG-S416"
        )
    dropping = dict.fromkeys(
        consumer.name for consumer in consumers.consumers() if consumer.additional_gids == "dropped"
    )
    consequence = f"silently dropped by {', '.join(dropping)}: no process gets these groups there"
    yield _warning(path, "adds groups to the container's process", consequence, code="CDG-S417")


def _of_path(path: str, value: str, relative: str = _NOT_STARTED) -> Found:
    if "\0" in value:
        yield _error(path, "has a zero byte", code="CDG-S403")
    elif value and not value.startswith("/"):
        yield _error(path, f"{value!r} is not absolute", relative, code="CDG-S403")
