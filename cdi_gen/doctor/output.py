# SPDX-License-Identifier: Apache-2.0
"""Results as text for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from cdi_base.errors import printable
from cdi_base.findings import Finding
from cdi_gen.doctor.check import GROUPS, STATUSES, Result, Status
from cdi_gen.findings import Explanation

FORMAT = 1
"""The version of the JSON document."""

SIGNS: dict[Status, str] = {
    "ok": "✓", "warning": "!", "fault": "✗", "unseen": "–", "not-applicable": "·",  # noqa: RUF001
}  # fmt: skip
ASCII_SIGNS: dict[Status, str] = {
    "ok": "+", "warning": "!", "fault": "x", "unseen": "-", "not-applicable": ".",
}  # fmt: skip
COLOURS: dict[Status, str] = {
    "ok": "32", "warning": "33;1", "fault": "31;1", "unseen": "36", "not-applicable": "2",
}  # fmt: skip

LINE = 100
"""The length of a line with names of checks."""

OF_SEVERITY: dict[str, Status] = {"error": "fault", "warning": "warning"}


class Form(NamedTuple):
    """How the text is written."""

    colour: bool = False
    ascii_only: bool = False
    """The terminal's encoding has no ✓."""
    all_checks: bool = False
    """Print also checks that do not apply to the host."""


def text(
    header: Sequence[tuple[str, str]],
    results: Sequence[Result],
    explanations: dict[str, Explanation],
    form: Form,
) -> str:
    """Return the results as text: the header, the groups with a line for each check, the counts."""
    lines = [printable(f"{title:<8} {value}") for title, value in header]
    shown = [result for result in results if form.all_checks or result.status != "not-applicable"]
    alike = _seen_alike(shown)
    shown = [result for result in shown if (result.line, result.fix) not in alike]
    width = max((len(result.check.name) for result in shown), default=0)
    for group, title in GROUPS.items():
        of_group = [result for result in shown if result.check.group == group]
        if of_group:
            lines += ["", title]
            for result in of_group:
                lines += _lines(result, width, explanations, form)
    for (line, fix), names in alike.items():
        lines += ["", f"{_sign('unseen', form)} {len(names)} checks: {printable(line)}"]
        lines += wrap(", ".join(names), LINE, initial_indent="    ", subsequent_indent="    ")
        lines += [f"    fix: {printable(fix)}"] if fix else []
    lines += ["", counts(results)] if lines else [counts(results)]
    written = "".join(f"{line}\n" for line in lines)
    return written.encode("ascii", "replace").decode() if form.ascii_only else written


def _seen_alike(results: Sequence[Result]) -> dict[tuple[str, str], list[str]]:
    """Return the names of checks that do not see the host for one reason, by reason and fix."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.status == "unseen":
            by_reason.setdefault((result.line, result.fix), []).append(result.check.name)
    return {reason: names for reason, names in by_reason.items() if len(names) > 1}


def counts(results: Sequence[Result]) -> str:
    """Return the last line: how many checks have which result."""
    words = {
        "ok": "ok", "warning": "with a warning", "fault": "with a fault", "unseen": "not visible",
        "not-applicable": "not applicable to this host",
    }  # fmt: skip
    numbers = [sum(result.status == status for result in results) for status in STATUSES]
    parts = [
        f"{number} {words[status]}"
        for status, number in zip(STATUSES, numbers, strict=True)
        if number
    ]
    return f"{len(results)} check{'s' * (len(results) != 1)}: {', '.join(parts) or 'none'}"


def _lines(
    result: Result, width: int, explanations: dict[str, Explanation], form: Form
) -> Iterator[str]:
    name = result.check.name.ljust(width)
    if result.status in {"ok", "unseen", "not-applicable"}:
        yield f"  {_sign(result.status, form)} {name}  {printable(result.line)}"
        if result.fix:
            yield f"      fix: {printable(result.fix)}"
    for finding in result.findings:
        if finding.severity == "info":
            yield f"      note: {printable(finding.message)} [{finding.code}]"
            continue
        sign = _sign(OF_SEVERITY[finding.severity], form)
        yield f"  {sign} {name}  {printable(finding.message)} [{finding.code}]"
        explanation = explanations.get(finding.code)
        if cause := cause_of(explanation):
            yield f"      cause: {printable(cause)}"
        yield f"      fix: {printable(fix_of(finding, explanation))}"


def _sign(status: Status, form: Form) -> str:
    sign = (ASCII_SIGNS if form.ascii_only else SIGNS)[status]
    return f"\033[{COLOURS[status]}m{sign}\033[0m" if form.colour else sign


def cause_of(explanation: Explanation | None) -> str:
    """Return the usual cause of a code; its meaning, if that contains the cause."""
    return (explanation.cause or explanation.meaning) if explanation else ""


def fix_of(finding: Finding, explanation: Explanation | None) -> str:
    """Return what to do in the case of the finding; else what to do for its code."""
    return finding.fix or (explanation.fix if explanation else "")


def document(
    header: Sequence[tuple[str, str]],
    results: Sequence[Result],
    explanations: dict[str, Explanation],
) -> dict[str, Any]:
    """Return the results as a JSON object. Names of checks and codes are stable."""
    return {
        "formatVersion": FORMAT,
        "host": {title.lower(): value for title, value in header},
        "checks": [
            {
                "name": result.check.name,
                "group": result.check.group,
                "title": result.check.title,
                "status": result.status,
                "line": result.line,
                "fix": result.fix,
                "findings": [
                    finding.fields()
                    | {
                        "cause": cause_of(explanations.get(finding.code)),
                        "fix": fix_of(finding, explanations.get(finding.code)),
                    }
                    for finding in result.findings
                ],
            }
            for result in results
        ],
        "counts": {
            status: sum(result.status == status for result in results) for status in STATUSES
        },
    }
