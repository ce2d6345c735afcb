# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen validate``."""

from __future__ import annotations

import json

import click

from cdi_gen.cdi.problem import Problem
from cdi_gen.cli import named_file
from cdi_gen.cli.output import print_data
from cdi_gen.errors import ExitCode

MAX_BYTES = 64 << 20


@click.command("validate")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of what is printed on standard output.",
)
def command(*, files: tuple[str, ...], form: str) -> int:
    """Check spec files: every problem with its place, and what an engine would do with it.

    A FILE may be - for standard input. Exit code 6 if an engine would ignore a file, or a
    container that asks for one of its devices would not start; that older engines do not know the
    version that a file claims is a warning.
    """
    from cdi_gen.cdi.validation import check_text  # noqa: PLC0415

    found = {path: check_text(named_file.read(path, MAX_BYTES)[0]) for path in files}
    print_data(_json(found) if form == "json" else _text(found))
    bad = any(each.severity != "warning" for problems in found.values() for each in problems)
    return ExitCode.INVALID_SPEC if bad else ExitCode.OK


def _text(found: dict[str, tuple[Problem, ...]]) -> str:
    lines = []
    for path, problems in found.items():
        lines += [
            f"{path}: {each.severity}: {each} [{each.code}]\n    {each.consequence}"
            for each in problems
        ]
        if not problems:
            lines.append(f"{path}: ok")
    return "\n".join(lines) + "\n"


def _json(found: dict[str, tuple[Problem, ...]]) -> str:
    document = [
        {
            "file": path,
            "problems": [
                {
                    "code": each.code,
                    "severity": each.severity,
                    "path": each.path,
                    "message": each.message,
                    "consequence": each.consequence,
                    "refusedBy": sorted(each.refused_by),
                }
                for each in problems
            ],
        }
        for path, problems in found.items()
    ]
    return json.dumps(document, indent=2) + "\n"
