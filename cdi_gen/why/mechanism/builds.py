# SPDX-License-Identifier: Apache-2.0
"""The mechanism of builds: of the builder in dockerd, and of Buildah, which Podman builds with."""

from __future__ import annotations

from cdi_base.findings import Finding
from cdi_gen.engines import facts
from cdi_gen.why.command.request import ContainerRequest
from cdi_gen.why.mechanism import advice, injection, without_cdi
from cdi_gen.why.mechanism.answer import Answer
from cdi_gen.why.mechanism.engine_facts import EngineFacts

_BUILDAH_IN_PODMAN = "5.4"
"""The first Podman whose Buildah (1.39) builds with CDI devices."""


def docker(request: ContainerRequest, engine: EngineFacts) -> Answer:
    """The answer for ``docker build``: devices come by ``RUN --device`` and an entitlement."""
    names = request.build_devices
    findings: list[Finding] = []
    if request.devices or request.gpus:
        message = "docker build has no --device and no --gpus"
        fix = "in the Dockerfile: RUN --device=nvidia.com/gpu=all …"
        findings.append(Finding("CDG-Y112", "error", message, subject="docker build", fix=fix))
    since = facts.docker().build_devices_since
    allowed = _allowed(request)
    refused = [name for name in names if not _is_allowed(name, allowed)]
    working = ""
    if engine.status.cdi != "on" and names:
        findings.append(without_cdi.finding(engine))
    elif names and not engine.since(since):
        message = (
            f"the builder of {engine.label} grants no device: granting entitlement device is not "
            f"allowed by build daemon configuration (Docker {since} and later grant it)"
        )
        fix = (
            "docker buildx create --use --driver docker-container --buildkitd-flags "
            "'--allow-insecure-entitlement=device', or build with podman build --device"
        )
        findings.append(Finding("CDG-Y112", "error", message, subject="docker build", fix=fix))
    elif refused:
        message = (
            f"the Dockerfile asks for {refused[0]}, and the command does not allow it: requested "
            "by the build step but not allowed"
        )
        fix = f"--allow device={refused[0]}, or the annotation "
        fix += "org.mobyproject.buildkit.device.autoallow: true of the device in the spec"
        findings.append(Finding("CDG-Y112", "error", message, subject=refused[0], fix=fix))
        working = advice.by_entitlement(request, refused)
    elif not names and not findings:
        message = "no step of the Dockerfile asks for a device (RUN --device=nvidia.com/gpu=all …)"
        findings.append(Finding("CDG-Y112", "error", message, subject="docker build"))
    injected = injection.of_names(names, engine) if names else None
    is_cdi = bool(names) and engine.status.cdi == "on" and engine.since(since)
    if is_cdi and injected and injected.hooks:
        message = (
            "the builder replaces the hooks of the spec with its own, for the network: in a step "
            "with a network the links and the loader's cache of the driver are missing"
        )
        fix = "--network none for the step, or a spec without hooks: cdi-gen generate --hooks=none"
        finding = Finding("CDG-Y112", "warning", message, subject="docker build", fix=fix)
        findings.append(finding)
    return Answer(
        request,
        engine,
        "cdi" if is_cdi else "none",
        "RUN --device names CDI devices" if names else "nothing asks for a device",
        names=names,
        injection=injected,
        findings=tuple(findings),
        working=working,
    )


def _allowed(request: ContainerRequest) -> tuple[str, ...]:
    """The devices that ``--allow`` names; ``*`` are all."""
    names = []
    for entitlement in request.allowed:
        kind, equals, name = entitlement.partition("=")
        if kind == "device":
            names.append(name if equals else "*")
    return tuple(names)


def _is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    return any(entry in ("*", name, name.partition("=")[0]) for entry in allowed)


def buildah(request: ContainerRequest, engine: EngineFacts) -> Answer:
    """The answer for ``buildah build`` and ``podman build``."""
    names = request.cdi_names
    findings: list[Finding] = []
    status = engine.status
    since = _BUILDAH_IN_PODMAN if status.engine == "podman" else facts.buildah().cdi_since
    has_cdi = engine.since(since)
    if names and not has_cdi:
        message = (
            f"{engine.label} builds without CDI: it takes {names[0]} for a path and finds no such "
            f"file ({status.engine} {since} and later build with CDI devices)"
        )
        fix = f"install {status.engine} {since} or later, or run the step in a container"
        findings.append(Finding("CDG-E102", "error", message, subject=status.engine, fix=fix))
        names = ()
    if request.podman_gpus or request.gpus:
        message = f"{request.program} build has no --gpus"
        findings.append(Finding("CDG-Y112", "error", message, subject="--gpus"))
    if names and request.isolation == "chroot":
        message = (
            "with --isolation chroot no hook of the spec runs: the links and the loader's cache of "
            "the driver are missing in the step"
        )
        fix = "--isolation oci, or a spec without hooks: cdi-gen generate --hooks=none"
        finding = Finding("CDG-Y112", "warning", message, subject="--isolation", fix=fix)
        findings.append(finding)
    injected = injection.of_names(names, engine) if names else None
    has_fault = any(finding.severity == "error" for finding in findings)
    working = ""
    if has_cdi and (has_fault or not names):
        working = advice.by_cdi(request, engine, advice.wanted_names(request))
    return Answer(
        request,
        engine,
        "cdi" if names else "none",
        "--device names CDI devices" if names else "nothing asks for a device",
        names=names,
        injection=injected,
        findings=tuple(findings),
        working=working,
    )
