# SPDX-License-Identifier: Apache-2.0
"""The result as JUnit XML: a test suite for each class of hosts, a test case for each image.

GitLab, Jenkins and the readers of GitHub show such files. The name of a suite has no label of a
column, because labels change with the fleet; so a case keeps its name while its driver and GPUs do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from cdi_base.errors import printable
from cdi_gen.compat.driver_rules import NO
from cdi_gen.compat.fleet import marks
from cdi_gen.compat.fleet.matrix import Fleet, HostClass
from cdi_gen.compat.verdict import UNKNOWN, Verdict

FAILURE, ERROR, SKIPPED = "failure", "error", "skipped"


class Outcome(NamedTuple):
    """The outcome of test cases."""

    kind: str = ""
    """`FAILURE`, `ERROR` or `SKIPPED`; empty: passed."""
    message: str = ""
    text: str = ""


class Case(NamedTuple):
    """A test case."""

    name: str
    outcome: Outcome


class Suite(NamedTuple):
    """A test suite."""

    name: str
    cases: list[Case]
    properties: tuple[tuple[str, str], ...] = ()


def render(fleet: Fleet, pin_differences: Iterable[str] = ()) -> str:
    """Return the result as JUnit XML.

    Args:
        fleet: the verdicts.
        pin_differences: what differs from the lock file, a failed test case each.
    """
    outcomes = [_outcome(verdict) for verdict in fleet.verdicts]
    suites = [_suite(fleet, index, outcomes) for index in range(len(fleet.classes))]
    if fleet.unreadable:
        cases = [
            Case(
                f"{row.subject} {row.name}",
                Outcome(ERROR, row.reason.message, marks.line(row.reason)),
            )
            for row in fleet.unreadable
        ]
        suites.append(Suite("inputs", cases))
    differences = [Case(line, Outcome(FAILURE, line, line)) for line in pin_differences]
    if differences:
        suites.append(Suite("lock file", differences))
    # The schema of Jenkins knows no number of skipped cases at this element.
    counts = _counts([case for suite in suites for case in suite.cases]).partition(" skipped=")[0]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="cdi-gen compat"{counts}>',
    ]
    lines += ["\n".join(_suite_lines(suite)) for suite in suites]
    return "\n".join([*lines, "</testsuites>", ""])


def _suite(fleet: Fleet, index: int, outcomes: list[Outcome]) -> Suite:
    host_class = fleet.classes[index]
    cases = [Case(row.facts.name, outcomes[row.cells[index]]) for row in fleet.rows]
    return Suite(
        _name(host_class),
        cases,
        (("hosts", str(len(host_class.hosts))), ("names", ", ".join(host_class.hosts))),
    )


def _name(host_class: HostClass) -> str:
    facts = host_class.facts
    details = [facts.cuda and f"CUDA {facts.cuda}", facts.kernel_module, facts.architecture]
    rest = ", ".join(detail for detail in details if detail)
    capabilities = ", ".join(gpu.capability for gpu in facts.gpus if gpu.capability)
    brands = ", ".join(gpu.brand for gpu in facts.gpus if gpu.brand)
    gpus = " ".join(filter(None, (host_class.gpus, capabilities, brands)))
    return f"driver {host_class.driver}{f' ({rest})' if rest else ''}, {gpus}"


def _outcome(verdict: Verdict) -> Outcome:
    if marks.severity(verdict) == marks.RUNS:
        return Outcome()
    kind = {NO: FAILURE, UNKNOWN: SKIPPED}.get(verdict.kind, "")
    message = verdict.reasons[0].message if kind else ""
    return Outcome(kind, message, "\n".join(marks.lines(verdict)))


def _counts(cases: list[Case]) -> str:
    outcomes = [case.outcome.kind for case in cases]
    return (
        f' tests="{len(outcomes)}" failures="{outcomes.count(FAILURE)}" '
        f'errors="{outcomes.count(ERROR)}" skipped="{outcomes.count(SKIPPED)}" time="0"'
    )


def _suite_lines(suite: Suite) -> Iterator[str]:
    name = _attribute(suite.name)
    yield f" <testsuite name={name}{_counts(suite.cases)}>"
    if suite.properties:
        yield "  <properties>"
        for key, value in suite.properties:
            yield f'   <property name="{key}" value={_attribute(value)}/>'
        yield "  </properties>"
    for case in suite.cases:
        start = f"  <testcase classname={name} name={_attribute(case.name)}"
        kind, reason, details = case.outcome
        text = "\n".join(map(_text, details.split("\n"))) if details else ""
        if kind:
            message = f"<{kind} message={_attribute(reason)}"
            yield f'{start} time="0">{message}>{text}</{kind}></testcase>'
        elif text:
            yield f'{start} time="0"><system-out>{text}</system-out></testcase>'
        else:
            yield f'{start} time="0"/>'
    yield " </testsuite>"


def _attribute(text: str) -> str:
    # XML has no form for most control characters, escaped or not.
    return quoteattr(printable(text))


def _text(line: str) -> str:
    return escape(printable(line))
