# SPDX-License-Identifier: Apache-2.0
"""The mechanism of ctr and nerdctl, which make the container's configuration themselves."""

from __future__ import annotations

from collections.abc import Mapping

from cdi_base.findings import Finding
from cdi_gen.engines import facts
from cdi_gen.engines.runtimes import is_nvidia
from cdi_gen.why.command.request import BUILD, ContainerRequest
from cdi_gen.why.mechanism import advice, builds, injection, remarks, shims, without_cdi
from cdi_gen.why.mechanism.answer import Answer, Mechanism
from cdi_gen.why.mechanism.engine_facts import CONTAINER_CLI, EngineFacts


def ctr(request: ContainerRequest, engine: EngineFacts, image: Mapping[str, str]) -> Answer:
    """The answer for ``ctr run`` and ``ctr container create``."""
    containerd = facts.containerd()
    findings: list[Finding] = []
    names: tuple[str, ...] = ()
    if request.cdi_names:
        since = containerd.ctr_cdi_since
        if engine.since(since):
            names = request.cdi_names
        else:
            message = (
                f"ctr of {engine.label} takes {request.cdi_names[0]} for a path: error stating "
                f"device path ({since} and later know CDI devices)"
            )
            findings.append(Finding("CDG-E102", "error", message, subject="ctr"))
    mechanism: Mechanism = "cdi" if names else "none"
    reason = "--device names CDI devices" if names else ""
    if request.podman_gpus:
        if engine.since(containerd.ctr_gpus_by_cdi_since):
            names = (*names, *advice.names_of(request.podman_gpus))
            mechanism, reason = "cdi", f"--gpus of ctr {engine.status.version} means CDI devices"
        else:
            mechanism, reason = "container-cli", "--gpus of ctr runs nvidia-container-cli"
            findings += _container_cli(engine)
    if mechanism == "none" and request.runtime and is_nvidia("", request.runtime):
        # The tables of CRI do not count for ctr: only --runc-binary gives another runtime.
        return shims.answer(
            request, engine, image, f"--runc-binary {request.runtime}", {}, findings
        )
    return _answer(request, engine, mechanism, reason, names, findings)


def nerdctl(request: ContainerRequest, engine: EngineFacts, image: Mapping[str, str]) -> Answer:
    """The answer for ``nerdctl run``, ``create`` and ``build``."""
    if request.action == BUILD:
        return builds.docker(request, engine)
    findings: list[Finding] = []
    names = request.cdi_names
    if names and engine.status.cdi != "on":
        findings.append(without_cdi.finding(engine))
        names = ()
    mechanism: Mechanism = "cdi" if names else "none"
    reason = "--device names CDI devices" if names else ""
    by_cdi = engine.since(facts.nerdctl().gpus_by_cdi_since)
    for gpus in request.gpus:
        if gpus.number and gpus.devices:
            message = "nerdctl: cannot set both Count and DeviceIDs on device request"
            findings.append(Finding("CDG-Y107", "error", message, subject="--gpus"))
        elif by_cdi:
            names = (*names, *advice.names_of(gpus.names))
            mechanism, reason = "cdi", f"--gpus of {engine.label} means CDI devices"
        else:
            mechanism, reason = "container-cli", f"--gpus of {engine.label} runs {CONTAINER_CLI}"
            findings += _container_cli(engine)
    if mechanism == "none" and request.runtime and is_nvidia(request.runtime, request.runtime):
        reason = f"--runtime {request.runtime}"
        return shims.answer(request, engine, image, reason, {}, findings)
    return _answer(request, engine, mechanism, reason, names, findings)


def _container_cli(engine: EngineFacts) -> list[Finding]:
    if engine.cli_program:
        return []
    message = (
        f"{engine.label} runs {CONTAINER_CLI} for --gpus, and no such program is in PATH: "
        f'exec: "{CONTAINER_CLI}": executable file not found in $PATH'
    )
    fix = "--device nvidia.com/gpu=all instead of --gpus"
    return [Finding("CDG-Y104", "error", message, subject="--gpus", fix=fix)]


def _answer(
    request: ContainerRequest,
    engine: EngineFacts,
    mechanism: Mechanism,
    reason: str,
    names: tuple[str, ...],
    findings: list[Finding],
) -> Answer:
    if mechanism == "none":
        findings += remarks.nodes_alone(request)
        if not findings:
            findings += remarks.no_effect(request, engine)
        if not findings:
            findings += remarks.no_request(request)
    if mechanism == "none" and request.device_paths:
        mechanism = "nodes"
    has_fault = any(finding.severity == "error" for finding in findings)
    unique = tuple(dict.fromkeys(names))
    return Answer(
        request,
        engine,
        mechanism,
        reason or "the command names no CDI device that this version takes",
        names=unique,
        injection=injection.of_names(unique, engine, request.spec_directories) if unique else None,
        findings=tuple(findings),
        working=advice.working(request, engine, advice.wanted_names(request))
        if has_fault or mechanism in ("none", "nodes")
        else "",
    )
