# SPDX-License-Identifier: Apache-2.0
"""Writes the data of commands to standard output, and aligns tables."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence

import click

from cdi_base.errors import printable

TEXT_OR_JSON = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the output.",
)


def print_data(text: str) -> None:
    """Write data to standard output, in one piece."""
    sys.stdout.write(text)
    sys.stdout.flush()


def can_show(text: str) -> bool:
    """Whether the user's locale can show a text; standard output is UTF-8 in any locale."""
    import locale  # noqa: PLC0415 - for commands that print signs

    try:
        text.encode(locale.getpreferredencoding(do_setlocale=False))
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """Return a table as text, with columns as wide as their widest cell.

    A cell may be a name of the host or of a hostile file; it is printed in one line.
    """
    lines = [tuple(map(printable, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def difference(old: str, new: str, old_name: str, new_name: str) -> str:
    """Return the change of a text file as a unified diff that is safe to print on a terminal."""
    import difflib  # noqa: PLC0415 - for dry runs only

    changes = difflib.unified_diff(
        _lines(old), _lines(new), printable(old_name), printable(new_name)
    )
    printed = []
    for line in changes:
        cells = line.removesuffix("\n").split("\t")
        printed.append("\t".join(map(printable, cells)))
        if not line.endswith("\n"):
            printed.append("\\ No newline at end of file")
    return "".join(f"{line}\n" for line in printed)


def _lines(text: str) -> list[str]:
    """Split at newlines only; `str.splitlines` splits at control characters too."""
    *lines, rest = text.split("\n")
    return [f"{line}\n" for line in lines] + ([rest] if rest else [])


def redirected_to_spec() -> str | None:
    """Return the spec file to which standard output is redirected, if it is empty.

    The shell has emptied the file when it opened it.
    """
    try:
        status = os.fstat(1)
        path = os.readlink("/proc/self/fd/1")
    except OSError:
        return None
    if stat.S_ISREG(status.st_mode) and status.st_size == 0 and path.endswith((".json", ".yaml")):
        return path
    return None
