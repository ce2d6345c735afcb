# SPDX-License-Identifier: Apache-2.0
"""What became of the programs, as a page of Markdown: a table, then what each of them said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.gpu.programs.container import NOT_THERE, PASSED, Outcome
from tests.gpu.programs.programs import Program

Results = dict[tuple[str, str], Outcome]
"""By the program's name and the form's title."""

LINES = {PASSED: 6, NOT_THERE: 1}
"""How much of the end of an output is kept."""
OTHERWISE = 40
LONGEST = 300


def text(
    about: Sequence[str], programs: Sequence[Program], forms: Sequence[str], results: Results
) -> str:
    """The page."""
    lines = ["# CUDA programs in a container", ""]
    lines += [f"- {line}" for each in about for line in each.splitlines()]
    lines += ["", f"| program | {' | '.join(forms)} |", "|---" * (len(forms) + 1) + "|"]
    for program in programs:
        cells = [_cell(results.get((program.name, form))) for form in forms]
        lines.append(f"| {program.name} | {' | '.join(cells)} |")
    lines += ["", "## Transcript", "", "```"]
    for program in programs:
        for form in forms:
            if outcome := results.get((program.name, form)):
                lines += _said(program, form, outcome)
    return "\n".join([*lines, "```", ""])


def status(results: Mapping[tuple[str, str], Outcome]) -> int:
    """0 where no program failed that is there."""
    tried = [each for each in results.values() if each.seconds]
    return 0 if all(each.verdict in (PASSED, NOT_THERE) for each in tried) else 1


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    if outcome.verdict == PASSED:
        return f"{PASSED}, {outcome.seconds:.1f} s"
    return outcome.verdict if outcome.seconds else "-"


def _said(program: Program, form: str, outcome: Outcome) -> list[str]:
    kept = outcome.output.replace("```", "'''").strip().splitlines()
    kept = kept[-LINES.get(outcome.verdict, OTHERWISE) :]
    return [
        f"### {program.name}, {form}: {outcome.verdict}",
        *(line[:LONGEST].rstrip() for line in kept),
        "",
    ]
