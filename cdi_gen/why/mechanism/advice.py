# SPDX-License-Identifier: Apache-2.0
"""Writes the command, or the lines of a file, that give a container the same devices here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from cdi_base.cdi.names import is_qualified
from cdi_base.versions import at_least
from cdi_gen.engines import facts
from cdi_gen.why.command.request import BUILD, POD, VISIBLE_DEVICES, ContainerRequest
from cdi_gen.why.mechanism.engine_facts import EngineFacts

KIND = "nvidia.com/gpu"
_NODE = re.compile(r"/dev/nvidia\d+(:.*)?")
_WORD = re.compile(r"all|\d+(:\d+)?|(GPU|MIG)-[0-9A-Fa-f-]+")


def names_of(words: Sequence[str]) -> tuple[str, ...]:
    """The CDI devices of what is asked for by indices and UUIDs; ``void`` and ``none`` are none."""
    names = []
    for word in words:
        if is_qualified(word):
            names.append(word)
        elif _WORD.fullmatch(word):
            names.append(f"{KIND}={word}")
    return tuple(dict.fromkeys(names))


def wanted_names(request: ContainerRequest) -> tuple[str, ...]:
    """The CDI devices that a request is about, in whatever way it asks for them."""
    words = [*request.cdi_names, *request.build_devices]
    for gpus in request.gpus:
        words += gpus.names
    words += [name.removeprefix("device=") for name in request.podman_gpus]
    if not words:
        words += (request.variable(VISIBLE_DEVICES) or "").split(",")
    names = names_of(words)
    if not names and any(_NODE.fullmatch(path) for path in request.device_paths):
        names = (f"{KIND}=all",)
    return names or (f"{KIND}=all",)


def by_cdi(request: ContainerRequest, engine: EngineFacts, names: Sequence[str]) -> str:
    """The request with CDI devices."""
    if request.program == "quadlet":
        if request.action == BUILD:
            return "\n".join(["[Build]", *(f"PodmanArgs=--device {name}" for name in names)])
        return "\n".join(["[Container]", *(f"AddDevice={name}" for name in names)])
    if request.program.endswith("compose"):
        return _compose_lines(request, engine, names)
    options = [f"--device={name}" if request.action == BUILD else "" for name in names]
    words = [word for name in names for word in ("--device", name)]
    if request.action == BUILD:
        words = list(options)
    return _rewritten(request, words)


def by_entitlement(request: ContainerRequest, names: Sequence[str]) -> str:
    """A build with the devices that its Dockerfile asks for."""
    words, _, _, before, _ = request.rewriting
    if not words:
        return ""
    allow = [word for name in names for word in ("--allow", f"device={name}")]
    insert = request.rewriting.at
    return shlex.join([*before, *words[:insert], *allow, *words[insert:]])


def by_gpus(request: ContainerRequest, names: Sequence[str]) -> str:
    """The request with ``--gpus``, which Docker gives to the prestart hook."""
    words = [name.partition("=")[2] for name in names if name.startswith(f"{KIND}=")] or ["all"]
    if request.program.endswith("compose"):
        ids = ", ".join(f'"{word}"' for word in words)
        count = "count: all" if words == ["all"] else f"device_ids: [{ids}]"
        return (
            "deploy:\n  resources:\n    reservations:\n      devices:\n"
            f"        - driver: nvidia\n          {count}\n          capabilities: [gpu]"
        )
    value = "all" if words == ["all"] else f"device={','.join(words)}"
    if "," in value:
        value = f'"{value}"'
    return _rewritten(request, ["--gpus", value])


def by_shim(request: ContainerRequest, runtime: str, names: Sequence[str]) -> str:
    """The request by a runtime that is a shim, and the variable."""
    words = [name.partition("=")[2] for name in names if name.startswith(f"{KIND}=")] or ["all"]
    value = f"{VISIBLE_DEVICES}={','.join(words)}"
    if request.program.endswith("compose"):
        return f"runtime: {runtime}\nenvironment:\n  - {value}"
    return _rewritten(request, ["--runtime", runtime, "-e", value])


def working(request: ContainerRequest, engine: EngineFacts, names: Sequence[str]) -> str:
    """What works with this version and configuration of the engine; empty if nothing does."""
    status = engine.status
    if status.cdi == "on" and _takes_cdi(request, engine):
        return by_cdi(request, engine, names)
    if status.engine == "docker" and engine.hook_program:
        return by_gpus(request, names)
    shims = [name for name, _ in status.runtimes]
    if shims and status.engine in ("docker", "podman") and request.action != BUILD:
        return by_shim(request, shims[0], names)
    return ""


_MENDED = frozenset({"CDG-Y002", "CDG-E102", "CDG-Y104", "CDG-Y105"})
"""The codes of faults of the engine, which a printed fix mends."""


def working_after_fix(
    request: ContainerRequest, engine: EngineFacts, codes: Iterable[str], names: Sequence[str]
) -> str:
    """What works once the engine is mended; empty if the fault is another."""
    if _MENDED.isdisjoint(codes) or request.action == POD:
        return ""
    status = engine.status
    if status.cdi != "no" and _takes_cdi(request, engine):
        return by_cdi(request, engine, names)
    if status.engine == "docker" and request.action != BUILD:
        return by_gpus(request, names)
    return ""


def _takes_cdi(request: ContainerRequest, engine: EngineFacts) -> bool:
    version = engine.status.version
    if engine.status.engine == "containerd":
        return at_least(version, facts.containerd().ctr_cdi_since, unknown=True)
    if request.action == BUILD and engine.status.engine == "podman":
        return at_least(version, "5.4", unknown=True)
    return True


def _compose_lines(request: ContainerRequest, engine: EngineFacts, names: Sequence[str]) -> str:
    """The lines of a service that give it CDI devices, for this Compose and this engine."""
    is_podman = engine.status.engine == "podman" and engine.by_api(request.program)
    if is_podman and not engine.since(facts.podman().api_devices_since):
        return ""
    if engine.has_older_compose(request.program):
        return (
            "deploy:\n  resources:\n    reservations:\n      devices:\n        - driver: cdi\n"
            f"          device_ids: [{', '.join(names)}]\n          capabilities: [gpu]"
        )
    return "\n".join(["devices:", *(f"  - {name}" for name in names)])


def _rewritten(request: ContainerRequest, options: Sequence[str]) -> str:
    """The command line with other options for devices."""
    words, spans, insert, before, misplaced = request.rewriting
    if not words:
        return ""
    removed = {index for start, end in (*spans, *misplaced) for index in range(start, end)}
    insert = min((start for start, _ in spans if start >= insert), default=insert)
    kept = [word for index, word in enumerate(words) if index not in removed]
    insert -= sum(1 for index in removed if index < insert)
    return shlex.join([*before, *kept[:insert], *options, *kept[insert:]])
