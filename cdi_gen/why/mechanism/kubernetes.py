# SPDX-License-Identifier: Apache-2.0
"""The mechanism by which a pod's container gets its devices on this node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from cdi_base import RUNTIME
from cdi_base.findings import Finding
from cdi_gen.engines import facts
from cdi_gen.paths import base_name
from cdi_gen.why.command.request import VISIBLE_DEVICES, ContainerRequest
from cdi_gen.why.mechanism import remarks, shims, without_cdi
from cdi_gen.why.mechanism.answer import Answer
from cdi_gen.why.mechanism.engine_facts import EngineFacts

_RESOURCE = re.compile(r"nvidia\.com/(gpu|mig-|imex|gpu\.shared|[a-z0-9.-]*gpu)")
_CDI_ANNOTATION, _NRI_ANNOTATION = "cdi.k8s.io/", "nvidia.cdi.k8s.io"
_LAUNCHERS = "/etc/cdi-gen/"
"""Where `cdi-gen engine configure` writes a program that starts the shim."""
_SNIPPET = "resources:\n  limits:\n    nvidia.com/gpu: 1"


def answer(request: ContainerRequest, engine: EngineFacts, image: Mapping[str, str]) -> Answer:
    """The answer for a container of a pod.

    Args:
        request: the container.
        engine: containerd or CRI-O of this node.
        image: the variables of the image, as far as they are known.
    """
    findings = [*_annotations(request)]
    limits = {name: number for name, number in request.resources if _RESOURCE.match(name)}
    findings += _quantities(request, limits)
    shim, more = _handler(request, engine)
    findings += more
    if limits or any(_RESOURCE.match(name) for name, _ in request.requested_resources):
        return _by_plugin(request, engine, limits, shim, findings)
    if request.claims:
        return _by_claims(request, engine, findings)
    if _by_nri(request):
        reason = f"the annotation {_NRI_ANNOTATION}, which an NRI plugin of the node reads"
        return Answer(request, engine, "cdi", reason, findings=tuple(findings))
    if shim:
        return _by_shim(request, engine, image, shim, findings)
    findings += remarks.nodes_alone(request)
    findings += remarks.no_effect(request, engine)
    if not findings:
        message = "the container asks for no GPU: it has no limit nvidia.com/gpu and no claim"
        findings.append(Finding("CDG-Y116", "warning", message, subject=request.source))
    return Answer(
        request,
        engine,
        "none",
        "no resource, no claim and no runtime of NVIDIA's",
        findings=tuple(findings),
        working=_SNIPPET,
    )


def _by_plugin(
    request: ContainerRequest,
    engine: EngineFacts,
    limits: Mapping[str, str],
    shim: str | None,
    findings: list[Finding],
) -> Answer:
    wanted = ", ".join(f"{number} of {name}" for name, number in limits.items()) or "devices"
    reason = f"the kubelet asks the device plugin for {wanted}"
    has_cdi = engine.status.cdi == "on"
    if shim:
        findings += _kind_mismatch(request, engine, shim)
    elif not has_cdi:
        message = (
            f"no mechanism of {engine.label} takes what the device plugin answers: CDI is off, and "
            "the pod's runtime is no shim"
        )
        fix = f"{without_cdi.finding(engine).fix}; or runtimeClassName: nvidia"
        findings.append(Finding("CDG-Y115", "error", message, subject=engine.label, fix=fix))
    else:
        message = (
            f"the pod's runtime is no shim: {engine.label} takes the devices only if the device "
            "plugin answers with CDI devices (device-list-strategy cdi-cri or cdi-annotations), "
            "and not with NVIDIA_VISIBLE_DEVICES (envvar)"
        )
        findings.append(Finding("CDG-Y115", "info", message, subject="device-list-strategy"))
    value = request.variable(VISIBLE_DEVICES)
    if value is not None and shim:
        message = (
            f"the pod sets {VISIBLE_DEVICES}={value} itself: with the strategies cdi-cri and "
            "cdi-annotations the shim reads the variable too, and the container gets these GPUs "
            "beside its own"
        )
        fix = f"remove {VISIBLE_DEVICES} from the pod"
        findings.append(Finding("CDG-Y116", "warning", message, subject=VISIBLE_DEVICES, fix=fix))
    return Answer(request, engine, "device-plugin", reason, findings=tuple(findings))


def _by_claims(request: ContainerRequest, engine: EngineFacts, findings: list[Finding]) -> Answer:
    if engine.status.cdi != "on":
        findings.append(without_cdi.finding(engine))
    claims = ", ".join(request.claims)
    reason = f"a driver prepares the claim {claims} and gives the kubelet CDI devices"
    return Answer(request, engine, "dra", reason, findings=tuple(findings))


def _by_shim(
    request: ContainerRequest,
    engine: EngineFacts,
    image: Mapping[str, str],
    shim: str,
    findings: list[Finding],
) -> Answer:
    """The answer if only NVIDIA_VISIBLE_DEVICES asks: the scheduler knows nothing of it."""
    value = request.variable(VISIBLE_DEVICES)
    if value is None:
        value = image.get(VISIBLE_DEVICES)
    if value and value.strip().lower() not in ("void", "none"):
        message = (
            f"{VISIBLE_DEVICES}={value} gives the container GPUs that the scheduler does not "
            "count: the node's other pods may have the same"
        )
        fix = "a limit instead of the variable: resources: {limits: {nvidia.com/gpu: 1}}"
        findings.append(Finding("CDG-Y116", "warning", message, subject=VISIBLE_DEVICES, fix=fix))
    findings += _kind_mismatch(request, engine, shim)
    return shims.answer(request, engine, image, f"the runtime {shim}", {}, findings)._replace(
        working=_SNIPPET
    )


def _handler(request: ContainerRequest, engine: EngineFacts) -> tuple[str | None, list[Finding]]:
    """The shim that the pod's runtime is, if it is one, and whether the engine has the runtime."""
    name = request.runtime_class
    shim = engine.shim(name)
    if not name or shim or "nvidia" not in name:
        return shim, []
    message = (
        f"{engine.label} has no runtime of the handler {name!r}: the pod stays in "
        f'ContainerCreating with: no runtime for "{name}" is configured'
    )
    crio = engine.status.engine == "crio"
    restart = facts.crio().restart if crio else facts.containerd().restart
    fix = (
        "remove runtimeClassName if the device plugin answers with CDI devices, or: sudo cdi-gen "
        "hook install --prefix /usr --nvidia-container-runtime && sudo cdi-gen engine configure "
        f"{engine.status.engine} --runtime && sudo {restart}"
    )
    return None, [Finding("CDG-Y105", "error", message, subject=name, fix=fix)]


def _kind_mismatch(request: ContainerRequest, engine: EngineFacts, shim: str) -> Iterator[Finding]:
    """The finding that NVIDIA's runtime looks for the pod's GPUs in the kind of another spec.

    In mode cdi NVIDIA's runtime puts the default kind before each UUID. The GPU Operator makes
    management.nvidia.com/gpu the default kind, which has the device `all` only.
    """
    settings = engine.settings
    if settings is None or _is_ours(shim):
        return
    by_cdi = settings.mode == "cdi" or shim.endswith(".cdi")
    if not by_cdi or settings.default_kind.partition("/")[0] == "nvidia.com":
        return
    kind = settings.default_kind
    given = f"runtimeClassName: {request.runtime_class}" if request.runtime_class else "the default"
    message = (
        f"{given} is {shim} in mode cdi, which looks for the pod's GPUs as {kind}=GPU-…: "
        f"unresolvable CDI devices {kind}=GPU-…, because {kind} has the device all only"
    )
    fix = (
        "remove runtimeClassName from the pod, if the device plugin answers with CDI devices; or "
        f'default-kind = "nvidia.com/gpu" in {settings.source or "config.toml"}, and a spec of '
        "that kind: sudo cdi-gen generate -o /etc/cdi/nvidia.json"
    )
    yield Finding("CDG-Y115", "error", message, subject=kind, fix=fix)


def _is_ours(shim: str) -> bool:
    """Whether a shim is cdi-gen's, which takes the GPU of nvidia.com/gpu if its kind lacks it."""
    return shim.startswith(_LAUNCHERS) or base_name(os.path.realpath(shim)) == RUNTIME


def _quantities(request: ContainerRequest, limits: Mapping[str, str]) -> Iterator[Finding]:
    """What the API server or the kubelet rejects."""
    requested = {
        name: number for name, number in request.requested_resources if _RESOURCE.match(name)
    }
    for name, number in requested.items():
        if limits.get(name, "") != number:
            limit = limits.get(name)
            what = f"its limit is {limit}" if limit is not None else "it has no limit"
            message = (
                f"{request.source} requests {number} of {name}, and {what}: the API server rejects "
                "the pod, because extended resources cannot be overcommitted"
            )
            fix = f"limits: {{{name}: {number}}}; the request may be left out"
            yield Finding("CDG-Y116", "error", message, subject=name, fix=fix)
    for name, number in limits.items():
        if not number.isdecimal():
            message = f"{name}: {number} is no whole number, which the API server rejects"
            fix = "share a GPU by time-slicing, MPS or MIG: docs/kubernetes.md"
            yield Finding("CDG-Y116", "error", message, subject=name, fix=fix)


def _by_nri(request: ContainerRequest) -> bool:
    return any(name.startswith(_NRI_ANNOTATION) for name, _ in request.annotations)


def _annotations(request: ContainerRequest) -> Iterator[Finding]:
    for name, value in request.annotations:
        if name.startswith(_CDI_ANNOTATION):
            message = (
                f"the annotation {name}: {value} of a pod has no effect: engines read it only of "
                "the container, which the kubelet sets for a device plugin"
            )
            fix = f"{_NRI_ANNOTATION}/container.NAME, if the node has the NRI plugin; or a limit"
            yield Finding("CDG-Y116", "warning", message, subject=name, fix=fix)
