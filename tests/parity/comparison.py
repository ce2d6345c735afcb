# SPDX-License-Identifier: Apache-2.0
"""Two specs of one host, taken apart into facts, and the facts in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cdi_gen.generate.options import HOOKS


class Difference(NamedTuple):
    """One fact that two specs tell differently; None: a spec does not tell it at all."""

    aspect: str
    subject: str
    theirs: str | None
    ours: str | None


def differences(
    theirs: dict[str, Any], ours: dict[str, Any], resolve: Callable[[str], str]
) -> list[Difference]:
    """All differences of two documents.

    Args:
        theirs: the spec of nvidia-ctk.
        ours: the spec of cdi-gen.
        resolve: returns a path of the host with its symbolic links resolved.
    """
    one, other = facts(theirs, resolve), facts(ours, resolve)
    return [
        Difference(*key, one.get(key), other.get(key))
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


Facts = dict[tuple[str, str], str]


def facts(spec: dict[str, Any], resolve: Callable[[str], str]) -> Facts:
    """Everything that a spec says, each thing by (aspect, subject); nothing is left out."""
    assert spec.keys() == {"cdiVersion", "kind", "devices", "containerEdits"}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for key, value in _of_spec(spec, resolve):
        found.setdefault(key, {})[value] = None
    return {key: " and ".join(values) for key, values in found.items()}


def _of_spec(
    spec: dict[str, Any], resolve: Callable[[str], str]
) -> Iterator[tuple[tuple[str, str], str]]:
    yield ("spec", "cdiVersion"), spec["cdiVersion"]
    yield ("spec", "kind"), spec["kind"]
    for device in spec["devices"]:
        assert device.keys() == {"name", "containerEdits"}
        yield ("device", device["name"]), "there"
        yield from _of_edits(device["name"], device["containerEdits"], resolve)
    yield from _of_edits("every device", spec["containerEdits"], resolve)


def _of_edits(
    scope: str, edits: dict[str, Any], resolve: Callable[[str], str]
) -> Iterator[tuple[tuple[str, str], str]]:
    for key, value in edits.items():
        yield from _READERS[key](scope, value, resolve)


def _of_env(scope: str, env: list[str], _: object) -> Iterator[tuple[tuple[str, str], str]]:
    for variable in env:
        name, _, value = variable.partition("=")
        yield ("env", f"{scope}: {name}"), value


def _of_nodes(
    scope: str, nodes: list[dict[str, Any]], _: object
) -> Iterator[tuple[tuple[str, str], str]]:
    for node in nodes:
        yield ("node", f"{scope}: {node['path']}"), "there"
        for key, value in node.items():
            if key != "path":
                yield (f"node {key}", f"{scope}: {node['path']}"), str(value)


def _of_hooks(
    scope: str, hooks: list[dict[str, Any]], _: object
) -> Iterator[tuple[tuple[str, str], str]]:
    commands = []
    steps = []
    for hook in hooks:
        program, command, *words = hook["args"]
        commands.append(command)
        steps.append(command)
        yield ("hook program", f"{scope}: {command}"), program
        pending = iter(words)
        for word in pending:
            flag, equals, value = word.partition("=")
            if flag[2:] in HOOKS:
                steps.append(flag[2:])
                continue
            value = value if equals else next(pending)
            steps.append(_STEPS_BY_OPTION.get(flag, command))
            if flag == "--link":
                text, _, link = value.partition("::")
                yield ("link", f"{scope}: {link}"), text
            elif flag == "--folder":
                yield ("folder", f"{scope}: {value}"), "there"
            else:
                yield ("hook option", f"{scope}: {flag}"), value
        for key in hook.keys() - {"args"}:
            yield (f"hook {key}", f"{scope}: {command}"), str(hook[key])
    yield ("hook processes", scope), ", ".join(commands)
    if scope == "every device":
        # What a process of a single device does (nvidia-ctk's by-path links) is in "link".
        yield from ((("hook step", step), "there") for step in HOOKS if step in steps)


def _of_mounts(
    scope: str, mounts: list[dict[str, Any]], resolve: Callable[[str], str]
) -> Iterator[tuple[tuple[str, str], str]]:
    places: dict[str, list[str]] = {}
    for mount in mounts:
        assert mount.keys() - {"type"} == {"hostPath", "containerPath", "options"}
        file = resolve(mount["hostPath"])
        places.setdefault(file, []).append(mount["containerPath"])
        yield ("mount named", f"{scope}: {file}"), mount["hostPath"]
        if "type" in mount:
            yield ("mount type", f"{scope}: {file}"), mount["type"]
        yield ("mount options", f"{scope}: {file}"), ",".join(sorted(mount["options"]))
    for file, found in places.items():
        yield ("mount", f"{scope}: {file}"), " ".join(sorted(found))


def _of_gids(scope: str, gids: list[int], _: object) -> Iterator[tuple[tuple[str, str], str]]:
    yield ("additionalGids", scope), str(gids)


_STEPS_BY_OPTION = {
    "--link": "create-symlinks",
    "--host-driver-version": "enable-cuda-compat",
    "--folder": "update-ldcache",
}
"""What an option of our one process asks for, which nvidia-ctk starts a process for."""

_READERS: dict[
    str, Callable[[str, Any, Callable[[str], str]], Iterator[tuple[tuple[str, str], str]]]
] = {
    "env": _of_env,
    "deviceNodes": _of_nodes,
    "hooks": _of_hooks,
    "mounts": _of_mounts,
    "additionalGids": _of_gids,
}
