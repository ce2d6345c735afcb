# SPDX-License-Identifier: Apache-2.0
"""What may be wrong with a request, whichever engine it is for."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from cdi_base.findings import Finding
from cdi_gen.engines import facts
from cdi_gen.why.command import option_table
from cdi_gen.why.command.request import BUILD, VISIBLE_DEVICES, ContainerRequest
from cdi_gen.why.mechanism.engine_facts import EngineFacts

DRIVER_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
_GPU_NODE = re.compile(r"/dev/nvidia\d+")
_NOTHING = ("", "void", "none")
_ALIKE = 0.9
"""How much two names of variables are alike if one is a misspelling of the other."""


def missing_options(request: ContainerRequest, engine: EngineFacts) -> Iterator[Finding]:
    """The finding that the version of the program is known not to have an option."""
    if not option_table.has_command(request.program, request.command):
        return
    table = option_table.table(request.program, request.command)
    for name in request.options:
        if table.is_missing_in(name, engine.status.version) and not _is_ignored(request, name):
            message = (
                f"{request.program} {request.command} of {engine.label} has no option --{name} "
                f"({table.since[name]} lists it)"
            )
            yield Finding("CDG-Y101", "error", message, subject=f"--{name}")


def _is_ignored(request: ContainerRequest, name: str) -> bool:
    """Whether the program accepts an option that it does not list: ``--gpus`` of Podman 4."""
    return (request.program, request.command, name) == ("podman", "run", "gpus")


def nodes_alone(request: ContainerRequest) -> Iterator[Finding]:
    """The finding that a container gets nodes and no driver."""
    paths = [path for path in request.device_paths if path.startswith("/dev/nvidia")]
    paths += [source for source, _ in request.mounts if source.startswith("/dev/nvidia")]
    paths += [source for source, _ in request.mounts if source == "/dev"]
    if paths:
        message = (
            f"{paths[0]} gives the container a device node and none of the driver's libraries; "
            "without the libraries of the host's driver CUDA finds no device"
        )
        yield Finding("CDG-Y114", "error", message, subject=paths[0])
    elif request.privileged:
        message = (
            "--privileged gives the container the nodes of all GPUs, and none of the driver's "
            "libraries"
        )
        yield Finding("CDG-Y114", "warning", message, subject="--privileged")


def no_effect(request: ContainerRequest, engine: EngineFacts) -> Iterator[Finding]:
    """The finding that nothing reads NVIDIA_VISIBLE_DEVICES."""
    value = request.variable(VISIBLE_DEVICES)
    if value is None or value.strip().lower() in _NOTHING:
        return
    runtime = request.runtime or engine.status.default_runtime or "the default runtime"
    message = (
        f"{VISIBLE_DEVICES}={value} has no effect: {runtime} of {engine.label} does not read it; "
        "only NVIDIA's runtime, its prestart hook and cdi-gen's do"
    )
    yield Finding("CDG-Y108", "error", message, subject=VISIBLE_DEVICES)


def misspelled(request: ContainerRequest, name: str) -> str:
    """The variable of the command that looks like a misspelling of another; empty: none."""
    for given, _ in request.environment:
        likeness = difflib.SequenceMatcher(None, given.strip().upper().replace("-", "_"), name)
        if given != name and not given.startswith("CUDA_") and likeness.ratio() > _ALIKE:
            return given
    return ""


def no_request(request: ContainerRequest) -> Iterator[Finding]:
    """The finding that the command asks for no GPU in any way."""
    if request.findings:
        return
    message = f"{request.source} asks for no GPU"
    yield Finding("CDG-Y121", "error", message, subject=request.program)


def nothing_requested(words: Sequence[str] | None, source: str) -> Iterator[Finding]:
    """The finding that the value of NVIDIA_VISIBLE_DEVICES gives no GPU."""
    if words is None:
        return
    value = ",".join(words)
    if value.lower() == "none":
        message = f"{VISIBLE_DEVICES}=none ({source}) gives the driver's files and no GPU"
    else:
        message = f"{VISIBLE_DEVICES}={value} ({source}) gives no GPU and no driver"
    fix = f"-e {VISIBLE_DEVICES}=all, or the index or UUID of a GPU"
    yield Finding("CDG-Y109", "error", message, subject=VISIBLE_DEVICES, fix=fix)


def capabilities(
    request: ContainerRequest, image: Mapping[str, str], *, obeyed: bool
) -> Iterator[Finding]:
    """What the container lacks of the driver, or that its choice of parts is not obeyed.

    Args:
        request: the container.
        image: the variables of the image.
        obeyed: whether the mechanism reads NVIDIA_DRIVER_CAPABILITIES.
    """
    value = request.variable(DRIVER_CAPABILITIES)
    if value is None:
        value = image.get(DRIVER_CAPABILITIES)
    if not obeyed:
        if value and request.variable(DRIVER_CAPABILITIES) is not None and value != "all":
            message = (
                f"{DRIVER_CAPABILITIES}={value} has no effect with CDI devices: the spec decides "
                "which parts of the driver a container gets"
            )
            fix = "sudo cdi-gen generate --capabilities " + value + " -o /etc/cdi/nvidia.json"
            yield Finding("CDG-Y113", "info", message, subject=DRIVER_CAPABILITIES, fix=fix)
        return
    listed = [word.strip() for word in (value or "").split(",") if word.strip()]
    if "all" in listed:
        return
    lacking = [name for name in ("graphics", "video", "display") if name not in listed]
    if lacking and (not listed or {"compute", "utility"}.issuperset(listed)):
        wrong = misspelled(request, DRIVER_CAPABILITIES)
        why = f"the command sets {wrong!r} instead" if wrong else "the variable is not set"
        given = value or f"compute,utility, because {why}"
        message = (
            f"{DRIVER_CAPABILITIES} is {given}: no Vulkan, OpenGL, NVENC or NVDEC in the container"
        )
        fix = f"if the program needs them: -e {DRIVER_CAPABILITIES}=all"
        yield Finding("CDG-Y113", "info", message, subject=DRIVER_CAPABILITIES, fix=fix)


def access(request: ContainerRequest, engine: EngineFacts) -> Iterator[Finding]:
    """What may keep the container's processes from its nodes: SELinux, and a lost group."""
    options = [option.replace("=", ":") for option in request.security_options]
    if engine.selinux and not request.privileged and "label:disable" not in options:
        message = (
            "SELinux is enforcing: it denies containers the nodes of GPUs, unless the policy "
            "allows it"
        )
        fix = "sudo setsebool -P container_use_devices on, or --security-opt label=disable"
        yield Finding("CDG-Y118", "warning", message, subject="selinux", fix=fix)
    if "keep-groups" in request.groups and len(request.groups) > 1:
        message = "--group-add keep-groups cannot be combined with other groups"
        yield Finding("CDG-Y118", "error", message, subject="--group-add")


def unreadable_configuration(engine: EngineFacts) -> list[Finding]:
    """What keeps the engine from reading its configuration."""
    restart = getattr(getattr(facts, engine.status.engine)(), "restart", "")
    then = f" && sudo {restart}" if restart else ""
    return [
        Finding(
            finding.code,
            "error",
            f"{finding.message}: {engine.label} does not start, or keeps its old settings",
            subject=finding.subject,
            fix=f"correct {finding.subject}{then}",
        )
        for finding in engine.unreadable_configuration
    ]


def bad_hooks(request: ContainerRequest, engine: EngineFacts) -> list[Finding]:
    """The files of hooks.d for which Podman and CRI-O start no container at all."""
    if request.action == BUILD:
        return []
    return [
        Finding(
            "CDG-A210" if program else "CDG-A211",
            "error",
            f"{path} names {program}, which does not exist: {engine.label} starts no container"
            if program
            else f"{path} is not a valid hook file: {engine.label} starts no container",
            subject=path,
            fix=f"sudo rm {shlex.quote(path)}",
        )
        for path, program in engine.bad_hook_files
    ]
