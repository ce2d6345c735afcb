# SPDX-License-Identifier: Apache-2.0
"""The mechanism that Podman takes, also for clients of Docker's API."""

from __future__ import annotations

from collections.abc import Mapping

from cdi_base.cdi.names import is_qualified
from cdi_base.findings import Finding
from cdi_gen.engines import facts
from cdi_gen.why.command.request import BUILD, POD, VISIBLE_DEVICES, ContainerRequest
from cdi_gen.why.mechanism import advice, builds, injection, remarks, shims, without_cdi
from cdi_gen.why.mechanism.answer import Answer, Mechanism
from cdi_gen.why.mechanism.engine_facts import EngineFacts

_KIND = "nvidia.com/gpu"
_DEVICE_RESOURCE = "io.podman/device"


def answer(request: ContainerRequest, engine: EngineFacts, image: Mapping[str, str]) -> Answer:
    """The answer for ``podman run``, ``create``, ``build``, ``kube play``, quadlets and Compose."""
    if request.action == BUILD:
        return builds.buildah(request, engine)
    findings: list[Finding] = []
    names, reason = _names(request, engine, findings)
    if not engine.knows_runtime(request.runtime):
        message = f"{engine.label} has no runtime {request.runtime}: it is not registered"
        fix = (
            "sudo cdi-gen hook install --prefix /usr --nvidia-container-runtime && sudo cdi-gen "
            "engine configure podman --runtime; or --device nvidia.com/gpu=all without --runtime"
        )
        findings.append(Finding("CDG-Y105", "error", message, subject=request.runtime, fix=fix))
    shim = engine.shim(request.runtime)
    if not names:
        if shim:
            name = request.runtime or engine.status.default_runtime
            return shims.answer(request, engine, image, f"the runtime {name}", {}, findings)
        if engine.hook_files and _asks_hook(request, image):
            reason = f"{engine.hook_files[0]} runs the prestart hook"
            return shims.answer(
                request, engine, image, reason, {}, findings, mechanism="prestart-hook"
            )
        findings += remarks.nodes_alone(request)
        if not findings:
            findings += remarks.no_effect(request, engine)
        if not findings:
            findings += remarks.no_request(request)
    else:
        findings += remarks.capabilities(request, image, obeyed=False)
        findings += _rootless(request, engine)
    findings += remarks.access(request, engine)
    unique = tuple(dict.fromkeys(names))
    has_fault = any(finding.severity == "error" for finding in findings)
    fallback: Mechanism = "nodes" if request.device_paths else "none"
    return Answer(
        request,
        engine,
        "cdi" if unique else fallback,
        reason if unique else "the command names no CDI device that this Podman takes",
        names=unique,
        injection=injection.of_names(unique, engine, request.spec_directories) if unique else None,
        findings=tuple(findings),
        working=advice.working(request, engine, advice.wanted_names(request))
        if has_fault or not unique
        else "",
    )


def _names(
    request: ContainerRequest, engine: EngineFacts, findings: list[Finding]
) -> tuple[list[str], str]:
    """The CDI devices that Podman is asked for, and by what."""
    names = _of_compose(request, engine, findings)
    reason = "the command names CDI devices" if names else ""
    if request.gpus and "compose" in request.program and not engine.by_api(request.program):
        names += _of_podman_compose(request, findings)
        reason = reason or "podman-compose makes --device of the reservation"
    elif request.gpus:
        names += _of_api(request, engine, findings)
        reason = reason or "the device request with the driver cdi"
    if request.podman_gpus:
        names += _of_gpus(request, engine, findings)
        reason = reason or f"--gpus of {engine.label} means --device {_KIND}=NAME"
    if request.action == POD:
        names += _of_resources(request, engine, findings)
        reason = reason or "the resources of the container name CDI devices"
    if names and engine.status.cdi != "on":
        findings.append(without_cdi.finding(engine))
        names = []
    return names, reason


def _of_gpus(request: ContainerRequest, engine: EngineFacts, findings: list[Finding]) -> list[str]:
    """The devices of Podman's ``--gpus``, which knows neither counts nor ``device=``."""
    since = facts.podman().gpus_since
    if not engine.since(since):
        message = (
            f"{engine.label} ignores --gpus without a message ({since} and later take it for "
            f"--device {_KIND}=NAME)"
        )
        findings.append(Finding("CDG-Y106", "error", message, subject="--gpus"))
        return []
    names = []
    for word in request.podman_gpus:
        name = f"{_KIND}={word}"
        names.append(name)
        if "=" in word or not is_qualified(name):
            message = (
                f"podman takes --gpus {word} for --device {name}, which no spec defines: it does "
                "not know Docker's form"
            )
            fix = f"--device {_KIND}={word.rpartition('=')[2]}"
            findings.append(Finding("CDG-Y107", "error", message, subject="--gpus", fix=fix))
            names.pop()
        elif word.isdecimal():
            message = f"podman --gpus {word} is the GPU of index {word}; Docker gives {word} GPUs"
            findings.append(Finding("CDG-Y107", "info", message, subject="--gpus"))
    return names


def _of_api(request: ContainerRequest, engine: EngineFacts, findings: list[Finding]) -> list[str]:
    """The devices of device requests, which come by Docker's API: of Compose, or the docker CLI."""
    since = facts.podman().api_devices_since
    names: list[str] = []
    for gpus in request.gpus:
        if gpus.driver != "cdi":
            driver = f"driver {gpus.driver!r}" if gpus.driver else "no driver"
            message = (
                f"the API of {engine.label} ignores a device request with {driver}: the container "
                "starts without a GPU and without a message"
            )
        elif not engine.since(since):
            message = _ignored(engine)
        elif gpus.devices:
            names += gpus.devices
            continue
        else:
            message = "a device request with driver: cdi and no device_ids gives no device"
        findings.append(_finding(message, request, engine))
    return names


def _of_compose(
    request: ContainerRequest, engine: EngineFacts, findings: list[Finding]
) -> list[str]:
    """The devices of ``devices`` in a Compose file."""
    names = [*request.cdi_names]
    if not names or not engine.by_api(request.program):
        return names
    if engine.has_older_compose(request.program):
        message = (
            f"Docker Compose {engine.compose_version} passes {names[0]} as a path to the API of "
            f"{engine.label}: container create: stat {names[0]}: no such file or directory"
        )
    elif not engine.since(facts.podman().api_devices_since):
        message = _ignored(engine)
    else:
        return names
    findings.append(_finding(message, request, engine))
    return []


def _of_podman_compose(request: ContainerRequest, findings: list[Finding]) -> list[str]:
    """The devices of reservations, which podman-compose makes options of (``--device``)."""
    names: list[str] = []
    for gpus in request.gpus:
        capabilities = gpus.capabilities or ()
        if gpus.key == "devices" and gpus.driver == "nvidia" and "gpu" in capabilities:
            names += advice.names_of(gpus.names)
            continue
        message = (
            "podman-compose ignores the request: it takes only reservations with driver: nvidia "
            "and capabilities: [gpu]"
        )
        fix = "devices: [nvidia.com/gpu=all]"
        findings.append(Finding("CDG-Y110", "error", message, subject=request.source, fix=fix))
    return names


def _ignored(engine: EngineFacts) -> str:
    since = facts.podman().api_devices_since
    return (
        f"the API of {engine.label} ignores device requests, also those with driver: cdi ({since} "
        "and later take them)"
    )


def _finding(message: str, request: ContainerRequest, engine: EngineFacts) -> Finding:
    fix = "podman-compose with devices: [nvidia.com/gpu=all], or podman run --device"
    if engine.since(facts.podman().api_devices_since):
        fix = "a reservation with driver: cdi and device_ids: [nvidia.com/gpu=all]"
        if not engine.has_older_compose(request.program):
            fix = f"devices: [nvidia.com/gpu=all], or {fix}"
    return Finding("CDG-Y110", "error", message, subject=request.source, fix=fix)


def _of_resources(
    request: ContainerRequest, engine: EngineFacts, findings: list[Finding]
) -> list[str]:
    """The CDI devices among the resources of a pod, by which ``kube play`` takes them."""
    resources = dict((*request.requested_resources, *request.resources))
    names = [name for name in resources if is_qualified(name)]
    since = facts.podman().kube_devices_since
    if names and not engine.since(since):
        message = f"{engine.label} takes no CDI devices from a manifest ({since} and later do)"
        findings.append(Finding("CDG-Y106", "error", message, subject="kube play"))
        return []
    counted = [name for name in resources if name.startswith("nvidia.com/")]
    if not names and counted:
        message = f"podman kube play has no device plugin: the limit {counted[0]} gives no device"
        fix = f"resources: {{limits: {{{_KIND}=all: 1}}}}"
        findings.append(Finding("CDG-Y106", "error", message, subject=counted[0], fix=fix))
    return names


def _asks_hook(request: ContainerRequest, image: Mapping[str, str]) -> bool:
    value = request.variable(VISIBLE_DEVICES)
    return value is not None or VISIBLE_DEVICES in image or not image


def _rootless(request: ContainerRequest, engine: EngineFacts) -> list[Finding]:
    """What keeps a rootless container from its nodes."""
    if not engine.status.rootless or "keep-groups" not in request.groups:
        return []
    if request.runtime and "crun" not in request.runtime:
        message = f"--group-add keep-groups needs crun, and the runtime is {request.runtime}"
        return [Finding("CDG-Y118", "warning", message, subject="--group-add")]
    return []
