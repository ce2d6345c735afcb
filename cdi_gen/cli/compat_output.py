# SPDX-License-Identifier: Apache-2.0
"""The options of ``cdi-gen compat`` for its output: formats, and files."""

from __future__ import annotations

import os
from typing import NamedTuple

import click

from cdi_gen.cli.output import print_data
from cdi_gen.errors import UsageError

TEXT, JSON, CSV, JUNIT, HTML = "text", "json", "csv", "junit", "html"
FORMATS = (TEXT, JSON, CSV, JUNIT, HTML)

SUFFIXES = {".txt": TEXT, ".json": JSON, ".csv": CSV, ".xml": JUNIT, ".html": HTML}
"""The format of a file by the end of its name."""

OUTPUT = click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FORMAT|FILE",
    help="Print in a format (text, json; of a fleet also csv, junit, html), or write a file, whose "
    f"name says the format ({' '.join(SUFFIXES)}); may be given several times.  [default: text]",
)
FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Format of the files.  [default: by the file's name]",
)


class Target(NamedTuple):
    """Where an output goes, and in which format."""

    form: str
    path: str
    """The file; empty: standard output."""

    def write(self, text: str) -> None:
        """Write or print the text."""
        if self.path:
            from cdi_gen.store import write_text  # noqa: PLC0415 - most users print

            write_text(text, self.path)
        else:
            print_data(text)


def targets(outputs: tuple[str, ...], form: str | None, allowed: tuple[str, ...]) -> list[Target]:
    """Return what the options ask for.

    Args:
        outputs: values of ``--output``.
        form: value of ``--format``.
        allowed: the formats that the result has.

    Raises:
        UsageError: a format is not allowed or not known, or two outputs are to be printed.
    """
    result = [_target(value, form) for value in outputs] or [Target(form or TEXT, "")]
    for target in result:
        if target.form not in allowed:
            raise UsageError(
                f"the verdict of one image has no format {target.form}",
                hint=f"its formats are {', '.join(allowed)}; with --inventories and --images: "
                f"{', '.join(FORMATS)}",
                code="CDG-M107",
            )
    printed = [target.form for target in result if not target.path]
    if len(printed) > 1:
        raise UsageError(
            f"both {printed[0]} and {printed[1]} are to be printed on standard output",
            hint="write one of them to a file: -o FILE",
            code="CDG-M107",
        )
    return result


def _target(value: str, form: str | None) -> Target:
    if value in FORMATS:
        return Target(value, "")
    if value == "-":
        return Target(form or TEXT, "")
    form = form or SUFFIXES.get(os.path.splitext(value)[1].lower())
    if form is None:
        raise UsageError(
            f"-o {value!r} is neither a format nor a file whose name says its format",
            hint=f"formats: {', '.join(FORMATS)}; ends of names: {', '.join(SUFFIXES)}; any other "
            "name needs --format",
            code="CDG-M107",
        )
    return Target(form, value)
