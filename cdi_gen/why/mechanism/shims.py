# SPDX-License-Identifier: Apache-2.0
"""What the runtime shim, or the prestart hook of hooks.d, does with a container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cdi_base.findings import Finding
from cdi_gen.why.command.request import VISIBLE_DEVICES, ContainerRequest
from cdi_gen.why.mechanism import advice, injection, remarks
from cdi_gen.why.mechanism.answer import Answer, Mechanism
from cdi_gen.why.mechanism.engine_facts import EngineFacts

if TYPE_CHECKING:
    from cdi_base.findings import Severity

_NOTHING = ("", "void", "none")


def answer(
    request: ContainerRequest,
    engine: EngineFacts,
    image: Mapping[str, str],
    reason: str,
    added: Mapping[str, str],
    findings: list[Finding],
    *,
    mechanism: Mechanism = "shim",
) -> Answer:
    """The answer for a container that the shim or the hook sees.

    Args:
        request: the container.
        engine: that starts it.
        image: the variables of the image, as far as they are known.
        reason: why the shim or the hook sees it.
        added: the variables that the engine adds for ``--gpus``.
        findings: what is wrong so far.
        mechanism: shim or prestart-hook.
    """
    settings = engine.settings
    if settings is None:
        findings = [*findings, *([engine.settings_fault] if engine.settings_fault else [])]
        return Answer(request, engine, mechanism, reason, findings=tuple(findings))
    annotations = mechanism == "shim"
    words, faults = injection.requested_words(
        request, image, settings, annotations=annotations, added=added
    )
    findings = [*findings, *faults]
    value = added.get(VISIBLE_DEVICES) or request.variable(VISIBLE_DEVICES)
    source = "--gpus" if VISIBLE_DEVICES in added else "the command"
    if value is None and VISIBLE_DEVICES in image:
        value, source = image[VISIBLE_DEVICES], "the image"
    injected = None
    if words and words != ("none",):
        injected, faults = injection.of_request(
            request, image, settings, annotations=annotations, added=added
        )
        findings += [fault for fault in faults if fault not in findings]
        findings += remarks.capabilities(request, {**image, **added}, obeyed=True)
    elif value is not None and value.strip(" ,").lower() in _NOTHING:
        findings += remarks.nothing_requested(value.split(","), source)
    elif value is None and not faults:
        message = (
            f"{VISIBLE_DEVICES} is set neither by the command nor by the image, as far as the "
            "image can be read: the container gets no GPU"
        )
        wrong = remarks.misspelled(request, VISIBLE_DEVICES)
        if wrong:
            message = (
                f"the command sets {wrong!r}, which nothing reads; {VISIBLE_DEVICES} is not set, "
                "and the container gets no GPU"
            )
        fix = f"-e {VISIBLE_DEVICES}=all"
        severity: Severity = "error" if image or wrong else "warning"
        findings.append(Finding("CDG-Y109", severity, message, subject=VISIBLE_DEVICES, fix=fix))
    findings += remarks.access(request, engine)
    has_fault = any(finding.severity == "error" for finding in findings)
    names = advice.wanted_names(request)
    return Answer(
        request,
        engine,
        mechanism if words or value is not None else "none",
        reason,
        words=words,
        injection=injected,
        findings=tuple(findings),
        working=advice.working(request, engine, names) if has_fault else "",
    )
