# SPDX-License-Identifier: Apache-2.0
"""Decides which mechanism an engine takes for a request, and what is wrong with the request."""

from __future__ import annotations

from collections.abc import Mapping

from cdi_base.findings import Finding
from cdi_gen.why.command.request import ContainerRequest
from cdi_gen.why.mechanism import advice, containerd, docker, kubernetes, podman, remarks
from cdi_gen.why.mechanism.answer import TITLES, Answer, Injection, Mechanism
from cdi_gen.why.mechanism.engine_facts import EngineFacts

_REJECTED = "CDG-Y101"
"""The program does not read the command line, so no other command is derived from it."""

_UNKNOWN_RUNTIME = "CDG-Y105"
"""It follows from a configuration that the engine cannot read."""

__all__ = ["TITLES", "Answer", "EngineFacts", "Injection", "Mechanism", "decide", "unseen"]


def decide(
    request: ContainerRequest, engine: EngineFacts, image: Mapping[str, str] | None = None
) -> Answer:
    """The answer for a request and an engine.

    Args:
        request: the container, or the build.
        engine: that is asked.
        image: the variables of the image; None: they are not known.
    """
    variables = image or {}
    if request.engine == "kubernetes":
        result = kubernetes.answer(request, engine, variables)
    elif engine.status.engine in ("podman", "buildah"):
        result = podman.answer(request, engine, variables)
    elif engine.status.engine == "nerdctl":
        result = containerd.nerdctl(request, engine, variables)
    elif engine.status.engine == "containerd":
        result = containerd.ctr(request, engine, variables)
    else:
        result = docker.answer(request, engine, variables)
    missing = remarks.missing_options(request, engine)
    of_engine = [*remarks.unreadable_configuration(engine), *remarks.bad_hooks(request, engine)]
    findings = [
        finding
        for finding in result.findings
        if finding.code != _UNKNOWN_RUNTIME or not engine.unreadable_configuration
    ]
    result = result._replace(findings=(*request.findings, *missing, *of_engine, *findings))
    codes = [finding.code for finding in result.findings if finding.severity == "error"]
    if _REJECTED in codes:
        return result._replace(working="")
    if result.working or not codes:
        return result
    names = advice.wanted_names(request)
    after = advice.working_after_fix(request, engine, codes, names)
    return result._replace(working_after_fix=after)


def unseen(request: ContainerRequest, findings: tuple[Finding, ...]) -> Answer:
    """The answer for a request whose engine is not on this host."""
    reason = "the engine is not known"
    return Answer(request, None, "none", reason, findings=(*request.findings, *findings))
