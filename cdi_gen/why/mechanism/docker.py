# SPDX-License-Identifier: Apache-2.0
"""The mechanism that dockerd takes for a container (``daemon/devices*.go`` of its sources)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cdi_base.cdi.names import is_qualified
from cdi_base.findings import Finding
from cdi_gen.engines import facts
from cdi_gen.why.command.gpu_request import GpuRequest
from cdi_gen.why.command.request import BUILD, SERVICE, VISIBLE_DEVICES, ContainerRequest
from cdi_gen.why.mechanism import advice, builds, injection, remarks, shims, without_cdi
from cdi_gen.why.mechanism.answer import Answer, Mechanism
from cdi_gen.why.mechanism.engine_facts import EngineFacts

DRIVER_CAPABILITIES = ("compute", "compat32", "graphics", "utility", "video", "display")
_CAPABILITIES = frozenset(("gpu", "nvidia", *DRIVER_CAPABILITIES))
"""The capabilities that the driver ``nvidia`` has."""


def answer(request: ContainerRequest, engine: EngineFacts, image: Mapping[str, str]) -> Answer:
    """The answer for ``docker run``, ``create``, ``build`` and services of Compose and Swarm.

    Args:
        request: the container.
        engine: Docker.
        image: the variables of the image, as far as they are known.
    """
    if request.action == BUILD:
        return builds.docker(request, engine)
    if request.action == SERVICE:
        return _service(request, engine)
    asked = _asked(request, engine)
    mechanism, names, words, findings = asked.mechanism, asked.names, asked.words, asked.findings
    if not engine.knows_runtime(request.runtime):
        findings.append(_unknown_runtime(request, engine))
    shim = engine.shim(request.runtime)
    if shim and mechanism != "cdi":
        return _by_shim(request, engine, image, shim, asked.added, findings)
    if mechanism == "none":
        findings += remarks.nodes_alone(request)
        if not findings:
            findings += remarks.no_effect(request, engine)
        if not findings:
            findings += remarks.no_request(request)
    injected = None
    if names:
        injected = injection.of_names(names, engine)
        findings += remarks.capabilities(request, image, obeyed=False)
    elif mechanism == "prestart-hook" and engine.settings:
        injected, more = injection.of_request(
            request, image, engine.settings, annotations=False, added=asked.added
        )
        findings += more
    if mechanism == "none" and request.device_paths:
        mechanism = "nodes"
    findings += remarks.access(request, engine)
    return Answer(
        request,
        engine,
        mechanism,
        _reason(request, engine, mechanism, asked.reason, findings),
        names=names,
        words=words,
        injection=injected,
        findings=tuple(findings),
        working=_working(request, engine, findings, mechanism),
    )


class _Asked(NamedTuple):
    """What the device requests of a container lead to."""

    mechanism: Mechanism
    reason: str
    names: tuple[str, ...]
    words: tuple[str, ...]
    added: dict[str, str]
    """The variables that dockerd adds for the prestart hook."""
    findings: list[Finding]


def _asked(request: ContainerRequest, engine: EngineFacts) -> _Asked:
    names, findings = _devices(request, engine)
    mechanism: Mechanism = "cdi" if names else "none"
    reason = "the command names CDI devices" if names else ""
    words: tuple[str, ...] = ()
    added: dict[str, str] = {}
    for gpus in request.gpus:
        if gpus.key == "gpus" and engine.has_older_compose(request.program):
            findings.append(_unknown_key(engine))
            continue
        if gpus.driver != "cdi" and not gpus.names:
            findings.append(_no_gpus(gpus))
            continue
        chosen, why, devices, faults = choose(gpus, engine)
        findings += faults
        reason = reason or why
        if chosen == "cdi":
            mechanism, names = "cdi", (*names, *devices)
        elif chosen == "prestart-hook":
            mechanism = "prestart-hook" if mechanism == "none" else mechanism
            words = devices
            added = {VISIBLE_DEVICES: ",".join(devices), **_driver_capabilities(gpus)}
    return _Asked(mechanism, reason, tuple(dict.fromkeys(names)), words, added, findings)


def choose(
    gpus: GpuRequest, engine: EngineFacts
) -> tuple[Mechanism, str, tuple[str, ...], list[Finding]]:
    """The mechanism of one device request: ``--gpus``, or a reservation of Compose.

    Returns:
        the mechanism, why, the CDI devices or the words for the hook, and what is wrong.
    """
    docker = facts.docker()
    if gpus.number and gpus.devices:
        message = "docker: cannot set both Count and DeviceIDs on device request"
        return "none", "", (), [_bad(message, gpus)]
    if gpus.driver == "cdi":
        return _by_cdi_driver(gpus, engine)
    has_capabilities = gpus.capabilities is not None and _CAPABILITIES.issuperset(gpus.capabilities)
    by_cdi = engine.since(docker.gpus_by_cdi_since)
    drivers = _drivers(engine)
    if gpus.driver in ("", "nvidia") and drivers:
        if not has_capabilities and not (gpus.driver and by_cdi):
            return "none", "", (), [_not_selected(gpus, engine)]
        if by_cdi and engine.cdi_program and engine.status.cdi == "on":
            why = f"dockerd finds {engine.cdi_program}, so --gpus means CDI devices"
            return "cdi", why, advice.names_of(gpus.names), []
    elif gpus.driver == "nvidia.cdi" and by_cdi and engine.cdi_program:
        why = f"the driver nvidia.cdi; dockerd finds {engine.cdi_program}"
        if engine.status.cdi == "on":
            return "cdi", why, advice.names_of(gpus.names), []
    elif gpus.driver != "nvidia.runtime-hook" or not by_cdi:
        return "none", "", (), [_not_selected(gpus, engine)]
    if engine.hook_program and gpus.driver != "nvidia.cdi":
        older = "" if by_cdi else f" (Docker before {docker.gpus_by_cdi_since} knows no other way)"
        why = f"dockerd finds {engine.hook_program}, which it runs for --gpus{older}"
        return "prestart-hook", why, gpus.names, []
    return "none", "", (), [_not_selected(gpus, engine)]


def _by_cdi_driver(
    gpus: GpuRequest, engine: EngineFacts
) -> tuple[Mechanism, str, tuple[str, ...], list[Finding]]:
    if engine.status.cdi != "on":
        return "none", "", (), [without_cdi.finding(engine)]
    if gpus.number or gpus.has_options:
        what = "count" if gpus.number else "options"
        message = f"docker: unexpected {what} in CDI device request"
        return "none", "", (), [_bad(message, gpus)]
    wrong = [name for name in gpus.devices if not is_qualified(name)]
    if wrong:
        message = f"the driver cdi takes qualified names, and {wrong[0]!r} is none"
        fix = f"nvidia.com/gpu={wrong[0]}"
        finding = Finding("CDG-Y107", "error", message, subject=wrong[0], fix=fix)
        return "none", "", (), [finding]
    return "cdi", "the driver cdi", gpus.devices, []


def _drivers(engine: EngineFacts) -> bool:
    """Whether dockerd has the driver ``nvidia``."""
    by_cdi = engine.since(facts.docker().gpus_by_cdi_since)
    return bool(engine.hook_program or (by_cdi and engine.cdi_program))


def _driver_capabilities(gpus: GpuRequest) -> dict[str, str]:
    listed = [name for name in gpus.capabilities or () if name in DRIVER_CAPABILITIES]
    return {remarks.DRIVER_CAPABILITIES: ",".join(listed)} if listed else {}


def _bad(message: str, gpus: GpuRequest) -> Finding:
    fix = ""
    if gpus.devices and gpus.number and gpus.key:
        fix = "remove count: device_ids names the devices"
    elif gpus.devices and gpus.number > 0:
        ids = ",".join(gpus.devices)
        fix = (
            "several devices in one value need quotation marks that the shell keeps: "
            f"""--gpus '"device={ids},{gpus.number}"'"""
        )
    elif gpus.number:
        fix = "leave out count, and list the devices: device_ids: [nvidia.com/gpu=all]"
    return Finding("CDG-Y107", "error", message, subject="--gpus", fix=fix)


def _no_gpus(gpus: GpuRequest) -> Finding:
    """The finding that a device request is for no device: its number is 0."""
    what, fix = "--gpus 0", "--gpus device=0"
    if gpus.key:
        what, fix = "count: 0", "device_ids: ['0'] instead of count"
    message = (
        f"docker: {what} is a number of GPUs, and not the index of one: it gives none, and before "
        "Docker 27.3 those of the image's NVIDIA_VISIBLE_DEVICES"
    )
    return Finding("CDG-Y107", "error", message, subject="--gpus", fix=fix)


def _not_selected(gpus: GpuRequest, engine: EngineFacts) -> Finding:
    """The finding that dockerd has no driver for a device request."""
    docker = facts.docker()
    capabilities = " ".join(gpus.capabilities or ())
    says = f'could not select device driver "{gpus.driver}" with capabilities: [[{capabilities}]]'
    unknown = sorted(set(gpus.capabilities or ()) - _CAPABILITIES)
    if gpus.driver not in ("", "nvidia", "nvidia.cdi", "nvidia.runtime-hook"):
        message = f"docker: {says}: dockerd has no driver {gpus.driver!r}"
        fix = "driver: nvidia, or driver: cdi with device_ids: [nvidia.com/gpu=all]"
    elif unknown:
        message = f"docker: {says}: dockerd does not know the capability {unknown[0]!r}"
        fix = f"capabilities are {', '.join(sorted(_CAPABILITIES))}"
    elif gpus.capabilities is None and _drivers(engine):
        message = f"docker: {says}: the reservation has no capabilities"
        fix = "add capabilities: [gpu]"
    else:
        programs = [docker.gpus_by_hook_program]
        if engine.since(docker.gpus_by_cdi_since):
            programs.insert(0, docker.gpus_by_cdi_program)
        message = (
            f"docker: {says}: {' and '.join(programs)} {'are' if programs[1:] else 'is'} not in "
            f"the PATH of dockerd ({':'.join(engine.paths)})"
        )
        fix = f"sudo cdi-gen hook install --prefix /usr --{programs[0]} && sudo {docker.restart}"
    return Finding("CDG-Y104", "error", message, subject="docker", fix=fix)


def _unknown_key(engine: EngineFacts) -> Finding:
    since = facts.docker().compose_gpus_since
    message = (
        f"Docker Compose {engine.compose_version} does not know the key gpus ({since} and later "
        "do): it ignores the key, or rejects the file (Additional property gpus is not allowed)"
    )
    fix = "deploy.resources.reservations.devices with capabilities: [gpu]"
    return Finding("CDG-Y110", "error", message, subject="compose", fix=fix)


def _devices(
    request: ContainerRequest, engine: EngineFacts
) -> tuple[tuple[str, ...], list[Finding]]:
    """The CDI devices of ``--device``; none if this Docker does not take them."""
    if not request.cdi_names:
        return (), []
    if engine.status.cdi != "on":
        return (), [without_cdi.finding(engine)]
    if engine.has_older_compose(request.program):
        message = (
            f"Docker Compose {engine.compose_version} takes {request.cdi_names[0]} for the path of "
            f"a device ({facts.docker().compose_gpus_since} and later know CDI devices)"
        )
        fix = "deploy.resources.reservations.devices with driver: cdi and device_ids"
        return (), [Finding("CDG-Y110", "error", message, subject="compose", fix=fix)]
    return request.cdi_names, []


def _unknown_runtime(request: ContainerRequest, engine: EngineFacts) -> Finding:
    message = f"{engine.label} has no runtime {request.runtime}: it is not registered"
    fix = (
        "sudo cdi-gen hook install --prefix /usr --nvidia-container-runtime && sudo cdi-gen engine "
        f"configure docker --runtime && sudo {facts.docker().restart}"
    )
    return Finding("CDG-Y105", "error", message, subject=request.runtime, fix=fix)


def _by_shim(
    request: ContainerRequest,
    engine: EngineFacts,
    image: Mapping[str, str],
    shim: str,
    added: Mapping[str, str],
    findings: list[Finding],
) -> Answer:
    """The answer if the runtime of the container is NVIDIA's or ours."""
    name = request.runtime or engine.status.default_runtime
    given = "--runtime" if request.runtime else "the default runtime"
    reason = f"{given} {name} is {shim}"
    return shims.answer(request, engine, image, reason, added, findings)


def _service(request: ContainerRequest, engine: EngineFacts) -> Answer:
    """Swarm starts the containers of a service itself, and passes no device request on."""
    findings = []
    if request.gpus or request.devices:
        message = (
            "Swarm ignores devices and reservations of devices of a service: its containers get "
            "neither CDI devices nor --gpus"
        )
        fix = (
            "make the shim the default runtime of each node (sudo cdi-gen engine configure docker "
            "--runtime --set-as-default) and set NVIDIA_VISIBLE_DEVICES; with generic resources "
            "of the nodes: swarm-resource in config.toml"
        )
        findings.append(Finding("CDG-Y111", "error", message, subject=request.source, fix=fix))
    shim = engine.shim("")
    assigned = dict.fromkeys(_assigned(request), "all")
    listed = engine.settings.swarm_resource if engine.settings else ()
    if shim and assigned:
        findings += [_unread(name, listed) for name in assigned if name not in listed]
    if shim:
        return _by_shim(request, engine, {}, shim, assigned, findings)
    if assigned and not findings:
        findings.append(_without_shim(next(iter(assigned)), engine))
    findings += remarks.no_effect(request, engine)
    if not findings:
        findings += remarks.no_request(request)
    working = "environment:\n  - NVIDIA_VISIBLE_DEVICES=all"
    return Answer(
        request,
        engine,
        "none",
        "Swarm passes no devices to its containers",
        findings=tuple(findings),
        working=working if findings else "",
    )


def _assigned(request: ContainerRequest) -> list[str]:
    """The variables in which Swarm tells a container the GPUs that it assigns."""
    kinds = [kind.upper() for kind in request.generic_resources]
    return [f"DOCKER_RESOURCE_{kind}" for kind in kinds if "GPU" in kind]


def _unread(variable: str, listed: Sequence[str]) -> Finding:
    message = (
        f"Swarm assigns GPUs in {variable}, and swarm-resource of config.toml is "
        f"{', '.join(listed) or 'not set'}: the assignment is not read"
    )
    fix = "on each node: sudo cdi-gen doctor swarm-resources, which prints the line"
    return Finding("CDG-A241", "warning", message, subject=variable, fix=fix)


def _without_shim(variable: str, engine: EngineFacts) -> Finding:
    runtime = engine.status.default_runtime or "runc"
    message = (
        f"Swarm assigns GPUs in {variable}, which the default runtime {runtime} does not read: "
        "the container gets none"
    )
    fix = "on each node: sudo cdi-gen engine configure docker --runtime --set-as-default"
    fix += f" && sudo {facts.docker().restart}; and sudo cdi-gen doctor swarm-resources"
    return Finding("CDG-Y111", "error", message, subject=variable, fix=fix)


def _reason(
    request: ContainerRequest,
    engine: EngineFacts,
    mechanism: Mechanism,
    reason: str,
    findings: Sequence[Finding],
) -> str:
    if mechanism == "nodes":
        return "the command names nodes, and no CDI devices"
    if mechanism != "none":
        return reason
    asks = request.cdi_names or request.gpus or request.runtime
    if asks and any(finding.severity == "error" for finding in findings):
        return "Docker refuses the command"
    runtime = request.runtime or engine.status.default_runtime or "runc"
    return f"the command asks for no GPU, and the runtime {runtime} adds none"


def _working(
    request: ContainerRequest,
    engine: EngineFacts,
    findings: Sequence[Finding],
    mechanism: Mechanism,
) -> str:
    has_fault = any(finding.severity == "error" for finding in findings)
    if not has_fault and mechanism != "none":
        return ""
    return advice.working(request, engine, advice.wanted_names(request))
