# SPDX-License-Identifier: Apache-2.0
"""The answers of ``cdi-gen why COMMAND`` and ``cdi-gen why FILE``, as text and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from cdi_base.errors import printable
from cdi_base.findings import Finding
from cdi_base.nvidia import gpu_minor
from cdi_gen.cli import why_lookup
from cdi_gen.cli.output import print_data
from cdi_gen.cli.why_lookup import Question
from cdi_gen.errors import ExitCode
from cdi_gen.why import answer as lookup_answer
from cdi_gen.why import mechanism, readers, user
from cdi_gen.why.command import reading
from cdi_gen.why.mechanism import TITLES, EngineFacts, Injection, image_environment
from cdi_gen.why.mechanism.host_engines import HostEngines
from cdi_gen.why.spec_files import Host

_SHOWN_NODES = 4
_FAILING = ("unresolved", "fails", "broken")


class Explanation(NamedTuple):
    """The answer for a request, with the lookups of the devices that it leads to."""

    answer: mechanism.Answer
    lookups: tuple[lookup_answer.Answer, ...] = ()

    @property
    def outcome(self) -> str:
        """``works``, ``fails`` or ``unknown``."""
        if self.answer.has_fault or any(each.outcome in _FAILING for each in self.lookups):
            return "fails"
        is_known = all(each.outcome != "unknown" for each in self.lookups)
        return "works" if self.answer.is_complete and is_known else "unknown"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong: with the request first, then with its devices."""
        failing = [each for each in self.lookups if each.outcome != "works"]
        found = [*self.answer.findings, *(fault for each in failing for fault in each.findings)]
        return tuple(dict.fromkeys(found))


def answer(question: Question, form: str) -> int:
    """Print the answers for a command line or a file, and return the exit code.

    Raises:
        CdiGenError: the command line or the file describes no container.
    """
    explanations = explain(question)
    if form == "json":
        document = {"answers": [_document(item) for item in explanations]}
        print_data(json.dumps(document, indent=2) + "\n")
    else:
        print_data(text(explanations))
    outcomes = {item.outcome for item in explanations}
    if "fails" in outcomes:
        return ExitCode.ERROR
    return ExitCode.PARTIAL if "unknown" in outcomes else ExitCode.OK


def explain(question: Question) -> list[Explanation]:
    """Return the answers for a command line or a file.

    Raises:
        CdiGenError: as `answer`.
    """
    environment = dict(os.environ)
    asked = user.named(question.user_name) if question.user_name else user.calling(environment)
    root = question.host.host_root
    engines = HostEngines(asked, environment, root, question.engine_names)
    host = Host(root)
    explanations = []
    for request in reading.requests(question.names, environment):
        for engine, findings in engines.facts(request):
            if engine is None:
                explanations.append(Explanation(mechanism.unseen(request, findings)))
                continue
            used = _reading(engine, question.spec_directories)
            found = mechanism.decide(request, used)
            if image_environment.matters(found):
                uid = asked.uid if used.status.rootless else 0
                image = image_environment.read(request, used, environment, uid)
                found = mechanism.decide(request, used, image)
            engines_user = asked if engine.status.rootless else user.ROOT
            reader = readers.reader_of(used.status, engines_user)
            if request.spec_directories:
                reader = reader._replace(directories=request.spec_directories)
            lookups = lookup_answer.answers(
                found.names, [reader], host, why_lookup.inventory_of(question)
            )
            explanations.append(Explanation(found, tuple(lookups)))
    return explanations


def _reading(engine: EngineFacts, directories: tuple[str, ...]) -> EngineFacts:
    """The engine as if it read these spec directories; its own if there are none."""
    if not directories:
        return engine
    return engine._replace(status=engine.status._replace(spec_directories=directories))


def text(explanations: Sequence[Explanation]) -> str:
    """Return the answers as text: the request, then for each engine what becomes of it."""
    has_signs = why_lookup.has_signs()
    signs = why_lookup.SIGNS if has_signs else why_lookup.ASCII_SIGNS
    lines: list[str] = []
    for source, items in groupby(explanations, key=lambda item: item.answer.request.source):
        lines.append(source)
        for item in items:
            lines += _lines(item, signs[item.outcome])
    return "".join(f"{printable(line)}\n" for line in lines)


def _lines(item: Explanation, sign: str) -> Iterator[str]:
    found = item.answer
    if found.engine is None:
        yield f"{sign} {found.request.engine}: cannot be seen"
    else:
        title = TITLES[found.mechanism]
        yield f"{sign} {found.engine.title}: {title}, because {found.reason}"
    if found.names:
        yield f"    devices: {', '.join(found.names)}"
    if found.words:
        yield f"    NVIDIA_VISIBLE_DEVICES: {','.join(found.words)}"
    if found.injection:
        yield f"    injected: {_numbers(found.injection)}"
    for finding in item.findings:
        kind = {"error": "cause", "warning": "warning"}.get(finding.severity, "note")
        yield f"    {kind}: {finding.message} [{finding.code}]"
        if finding.fix:
            yield f"      fix: {finding.fix}"
    if found.working or found.working_after_fix:
        yield "    works here:" if found.working else "    works after the fix:"
        yield from (f"      {line}" for line in _working(found).splitlines())


def _working(found: mechanism.Answer) -> str:
    return found.working or found.working_after_fix


def _numbers(injection: Injection) -> str:
    # The GPUs first: the other nodes are the same for each device.
    paths = sorted(injection.nodes, key=lambda path: gpu_minor(path.rpartition("/")[2]) is None)
    nodes = ", ".join(paths[:_SHOWN_NODES])
    more = ", …" if len(injection.nodes) > _SHOWN_NODES else ""
    shown = f" ({nodes}{more})" if nodes else ""
    return (
        f"{len(injection.nodes)} device nodes{shown}, {injection.mounts} mounts, "
        f"{injection.variables} variables, {injection.hooks} hooks"
    )


def _document(item: Explanation) -> dict[str, Any]:
    found = item.answer
    status = found.engine.status if found.engine else None
    return {
        "source": found.request.source,
        "program": found.request.program,
        "action": found.request.action,
        "image": found.request.image,
        "engine": status.engine if status else found.request.engine,
        "version": status.version if status else None,
        "rootless": status.rootless if status else None,
        "outcome": item.outcome,
        "mechanism": found.mechanism,
        "reason": found.reason,
        "devices": list(found.names),
        "visibleDevices": list(found.words),
        "injection": found.injection._asdict() if found.injection else None,
        "findings": [finding.fields() for finding in item.findings],
        "works": found.working or None,
        "worksAfterFix": found.working_after_fix or None,
        "lookups": [why_lookup.document(each) for each in item.lookups],
    }
