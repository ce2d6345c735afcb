# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen explain``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cdi_gen import findings
from cdi_gen.cli.output import aligned, print_data
from cdi_gen.errors import UsageError

WIDTH = 88


@click.command("explain")
@click.argument("codes", metavar="[CODE]...", nargs=-1)
def command(*, codes: tuple[str, ...]) -> None:
    """Explain codes of errors and warnings; without a CODE, list all codes.

    \b
      cdi-gen explain CDG-H001
      cdi-gen explain h001
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    if codes:
        print_explanations(codes)
        return
    table = findings.explanations()
    print_data(aligned([(row.code, row.severity, row.title) for row in table.values()]))


def print_explanations(codes: Sequence[str]) -> None:
    """Print the explanations of codes as typed.

    Raises:
        UsageError: there is no such code.
    """
    table = findings.explanations()
    explanations = []
    for text in codes:
        explanation = table.get(findings.code_of(text))
        if explanation is None:
            raise UsageError(
                f"unknown code {text!r}",
                hint="list all codes with: cdi-gen explain",
                code="CDG-U011",
            )
        explanations.append(_text(explanation))
    print_data("\n".join(explanations))


def _text(explanation: findings.Explanation) -> str:
    paragraphs = {
        "": explanation.meaning,
        "Usual cause": explanation.cause,
        "What to do": explanation.fix,
    }
    title = f"{explanation.code} ({explanation.severity}): {explanation.title}\n"
    return title + "".join(
        click.wrap_text(
            f"{name}: {text}" if name else text,
            width=WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
        )
        + "\n"
        for name, text in paragraphs.items()
        if text
    )
