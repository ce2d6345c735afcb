# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen validate``."""

from __future__ import annotations

import json

import click

from cdi_base.errors import printable
from cdi_gen.cdi.problem import Problem
from cdi_gen.cli import named_file
from cdi_gen.cli.output import TEXT_OR_JSON, print_data
from cdi_gen.errors import ExitCode

MAX_BYTES = 64 << 20
"""The largest file that is read; a spec of more than `wire.MAX_SIZE` bytes is a problem."""


@click.command("validate")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@TEXT_OR_JSON
def command(*, files: tuple[str, ...], form: str) -> int:
    """Check spec files; print each problem with its place and its effect on engines.

    FILE - is standard input. The exit code is 6 if an engine would ignore a file, or if a container
    that requests one of its devices would not start. It is only a warning if older engines do not
    support the version of a file.
    """
    from cdi_gen.cdi.validation import check_text  # noqa: PLC0415

    by_path = {path: check_text(named_file.read(path, MAX_BYTES)[0]) for path in files}
    print_data(_json(by_path) if form == "json" else _text(by_path))
    is_invalid = any(
        problem.severity != "warning" for problems in by_path.values() for problem in problems
    )
    return ExitCode.INVALID_SPEC if is_invalid else ExitCode.OK


def _text(by_path: dict[str, tuple[Problem, ...]]) -> str:
    lines = []
    for path, problems in by_path.items():
        for problem in problems:
            lines.append(f"{path}: {problem.severity}: {problem} [{problem.code}]")
            lines.append(f"    {problem.consequence}")
        if not problems:
            lines.append(f"{path}: ok")
    return "\n".join(map(printable, lines)) + "\n"


def _json(by_path: dict[str, tuple[Problem, ...]]) -> str:
    document = [
        {
            "file": path,
            "problems": [
                {
                    "code": problem.code,
                    "severity": problem.severity,
                    "path": problem.path,
                    "message": problem.message,
                    "consequence": problem.consequence,
                    "refusedBy": sorted(problem.refused_by),
                }
                for problem in problems
            ],
        }
        for path, problems in by_path.items()
    ]
    return json.dumps(document, indent=2) + "\n"
