# SPDX-License-Identifier: Apache-2.0
"""Validates a spec, and tells for each problem what happens to a container.

The standard's Go library, and so every engine, refuses a spec with a ``fatal`` problem. The library
accepts a spec with an ``error`` or a ``warning``, but a runtime fails or behaves unexpectedly: seen
with Podman 4.3 to 6.1, Docker 26 and 28, containerd 1.7 and 2.1, crun and runc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cdi_base.cdi import specification
from cdi_gen.cdi import consumers, document, schema, versions, wire
from cdi_gen.cdi.model import ContainerEdits, DeviceNode, Hook, Mount, Spec
from cdi_gen.cdi.problem import Problem, SpecError

READ_BY_ALL = "0.5.0"
"""The newest cdiVersion that every supported engine reads; Podman 4.3 of Debian 12 is the limit."""

_UNUSUAL_IN_NAMES = frozenset(" \t\n\"'`/#$")

_RANKS = {"warning": 1, "error": 2, "fatal": 3}
_NOT_STARTED = "a container with this device does not start"

Problems = Iterator[Problem]


def check(
    content: object,
    text_faults: Sequence[specification.Fault] = (),
    *,
    with_schema: bool = True,
) -> tuple[Problem, ...]:
    """Return the problems of a spec, in the order of the document.

    Args:
        content: a document as `wire.read` returns it, or a Spec.
        text_faults: the faults of the text, as `wire.read` returns them.
        with_schema: check against the standard's JSON schema too (loads jsonschema).
    """
    if isinstance(content, Spec):
        content = document.to_document(content)
    try:
        valid_fields, faults = specification.judge(content, text_faults)
    except specification.TooMuchError as error:
        return tuple(map(document.problem_of, error.faults))
    spec = document.build(valid_fields)
    problems = tuple(filter(None, (_problem_of(fault, spec) for fault in faults)))
    problems = _merge(problems, tuple(_of_spec(spec)))
    if with_schema:
        problems = _merge(problems, schema.check(content))
    return tuple(sorted(problems, key=_sort_key))


def check_text(text: str | bytes, *, with_schema: bool = True) -> tuple[Problem, ...]:
    """Return the problems of a spec's text, as `check` does for its document."""
    try:
        return check(*wire.read(text), with_schema=with_schema)
    except SpecError as error:
        return error.problems


def _merge(problems: tuple[Problem, ...], further: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Add further problems, if they are at a new path or more severe than the others there.

    The first check that reports a fault has the best explanation of it.
    """
    ranks: dict[str, int] = {}
    for problem in problems:
        ranks[problem.path] = max(ranks.get(problem.path, 0), _RANKS[problem.severity])
    return problems + tuple(
        problem for problem in further if _RANKS[problem.severity] > ranks.get(problem.path, 0)
    )


def _sort_key(problem: Problem) -> tuple[tuple[int, int | str], ...]:
    parts = re.split(r"\[([0-9]+)\]", problem.path)
    return tuple((0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts))


def _error(path: str, message: str, consequence: str = _NOT_STARTED, *, code: str) -> Problem:
    return Problem(path=path, message=message, code=code, consequence=consequence, severity="error")


def _warning(path: str, message: str, consequence: str, *, code: str) -> Problem:
    return Problem(
        path=path, message=message, code=code, consequence=consequence, severity="warning"
    )


def _of_spec(spec: Spec) -> Problems:
    if spec.cdi_version.startswith("v"):
        consequence = "versions of the standard have no 'v'; engines ignore the 'v'"
        yield _warning(".cdiVersion", "starts with 'v'", consequence, code="CDG-S304")
    for index, device in enumerate(spec.devices):
        yield from _of_edits(f".devices[{index}].containerEdits", device.container_edits)
    yield from _of_edits(".containerEdits", spec.container_edits)


def _problem_of(fault: specification.Fault, spec: Spec) -> Problem | None:
    """Return the problem that describes a fault; None if no supported engine is affected."""
    problem = document.problem_of(fault)
    if fault.path == ".cdiVersion" and fault.slight:
        claimed = spec.cdi_version.removeprefix("v")
        if versions.compare(claimed, READ_BY_ALL) <= 0:
            return None
        releases = ", ".join(map(str, consumers.first_to_accept(claimed)))
        return problem._replace(consequence=f"read only by these and later releases: {releases}")
    return problem


def _of_edits(path: str, edits: ContainerEdits) -> Problems:
    yield from _of_env(f"{path}.env", edits.env)
    for index, node in enumerate(edits.device_nodes):
        yield from _of_node(f"{path}.deviceNodes[{index}]", node)
    for index, hook in enumerate(edits.hooks):
        yield from _of_hook(f"{path}.hooks[{index}]", hook)
    index_by_path: dict[str, int] = {}
    for index, mount in enumerate(edits.mounts):
        mount_path = f"{path}.mounts[{index}]"
        yield from _of_mount(mount_path, mount)
        if mount.container_path in index_by_path:
            message = f"mounts[{index_by_path[mount.container_path]}] has the same containerPath"
            consequence = "the container sees only the later mount"
            yield _warning(f"{mount_path}.containerPath", message, consequence, code="CDG-S412")
        index_by_path[mount.container_path] = index
    yield from _of_untyped_mounts(f"{path}.mounts", edits.mounts)
    if edits.intel_rdt is not None:
        yield from _of_intel_rdt(f"{path}.intelRdt")
    if edits.additional_gids:
        yield from _of_additional_gids(f"{path}.additionalGids", edits.additional_gids)


def _of_env(path: str, env: tuple[str, ...]) -> Problems:
    for index, variable in enumerate(env):
        name = variable.partition("=")[0]
        if "\0" in variable:
            yield _error(f"{path}[{index}]", "has a zero byte", code="CDG-S401")
        elif not _UNUSUAL_IN_NAMES.isdisjoint(name):
            message = f"{name!r} is an unusual name for a variable"
            consequence = "the variable gets this name unchanged; perhaps a quote is misplaced"
            yield _warning(f"{path}[{index}]", message, consequence, code="CDG-S402")


def _of_node(path: str, node: DeviceNode) -> Problems:
    yield from _of_path(f"{path}.path", node.path)
    if node.host_path:
        yield from _of_path(f"{path}.hostPath", node.host_path)
    fields = {"type": node.type, "major": node.major or node.type == "p"}
    if missing := " and ".join(key for key, value in fields.items() if not value):
        consequence = "a container does not start while the host has no such node"
        yield _warning(path, f"{node.path} has no {missing}", consequence, code="CDG-S405")
    if node.file_mode is not None and node.file_mode > 0o7777:
        message = f"{node.file_mode} has more than permission bits (0o7777 is {0o7777})"
        consequence = "runtimes drop or refuse the other bits"
        yield _warning(f"{path}.fileMode", message, consequence, code="CDG-S406")


def _of_hook(path: str, hook: Hook) -> Problems:
    yield from _of_path(
        f"{path}.path", hook.path, f"runc refuses the hook: {_NOT_STARTED}; crun runs the program"
    )
    yield from _of_env(f"{path}.env", hook.env)
    if not hook.env:
        yield _warning(
            f"{path}.env",
            "the hook has no environment of its own",
            "runc before 1.3 gives the hook the container's environment, LD_PRELOAD included: with "
            "a createContainer hook, an image can run its code as root on the host",
            code="CDG-S409",
        )
    if hook.timeout is not None and hook.timeout <= 0:
        message = f"{hook.timeout} is not a number of seconds above 0"
        consequence = "the OCI runtime specification forbids this value"
        yield _warning(f"{path}.timeout", message, consequence, code="CDG-S410")


def _of_mount(path: str, mount: Mount) -> Problems:
    yield from _of_path(f"{path}.containerPath", mount.container_path)
    if mount.type in {"", "bind"} and not {"bind", "rbind"}.intersection(mount.options):
        yield _error(f"{path}.options", "has neither 'bind' nor 'rbind'", code="CDG-S411")
    if mount.type in {"", "bind", "none"}:
        yield from _of_path(f"{path}.hostPath", mount.host_path)


def _of_untyped_mounts(path: str, mounts: tuple[Mount, ...]) -> Problems:
    """At most one problem for all mounts: a driver has a hundred files."""
    untyped = [index for index, mount in enumerate(mounts) if not mount.type]
    if untyped:
        yield _warning(
            path,
            f"{len(untyped)} of {len(mounts)} mounts have no 'type: bind'",
            "crun crashes when the container joins the user namespace of another container, as in "
            "a pod (crun#1948)",
            code="CDG-S413",
        )


def _of_intel_rdt(path: str) -> Problems:
    yield _warning(
        path,
        "uses Intel RDT",
        "with crun a container does not start on a host without resctrl; runc ignores the setting",
        code="CDG-S415",
    )


def _of_additional_gids(path: str, gids: tuple[int, ...]) -> Problems:
    if 0 in gids:
        index = gids.index(0)
        yield _warning(f"{path}[{index}]", "group 0", "engines leave it out", code="CDG-S416")
    dropping = dict.fromkeys(
        consumer.name for consumer in consumers.consumers() if consumer.additional_gids == "dropped"
    )
    consequence = f"silently dropped by {', '.join(dropping)}: the process does not get the groups"
    yield _warning(path, "adds groups to the container's process", consequence, code="CDG-S417")


def _of_path(path: str, value: str, if_relative: str = _NOT_STARTED) -> Problems:
    if "\0" in value:
        yield _error(path, "has a zero byte", code="CDG-S403")
    elif value and not value.startswith("/"):
        yield _error(path, f"{value!r} is not absolute", if_relative, code="CDG-S403")
