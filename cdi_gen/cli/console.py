# SPDX-License-Identifier: Apache-2.0
"""What is said to people, on standard error; standard output carries data alone."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cdi_base.findings import Finding

_COLOURS = {"error": "31;1", "warning": "33;1", "hint": "36"}


class Manner(NamedTuple):
    """How to talk."""

    quiet: bool = False
    debug: bool = False
    json_lines: bool = False
    """One JSON object a line, for log collectors."""


_manner = Manner()


def configure(*, quiet: bool, debug: bool, json_lines: bool) -> None:
    """Choose the manner for the rest of this process."""
    global _manner  # noqa: PLW0603 - the one setting of a program's whole run
    _manner = Manner(quiet=quiet, debug=debug, json_lines=json_lines)


def is_debug() -> bool:
    """Whether everything is to be told."""
    return _manner.debug and not _manner.quiet


def note(message: str, *, code: str = "") -> None:
    """Print what was done, which has no code; or, with its code, what is good to know."""
    _report("info", message, code)


def warning(message: str, *, code: str, hint: str = "", subject: str = "") -> None:
    """Print that something is not as it should be; the command goes on."""
    _report("warning", message, code, hint, subject)


def error(message: str, *, code: str, hint: str = "", subject: str = "") -> None:
    """Print why the command failed."""
    _report("error", message, code, hint, subject)


def report(finding: Finding) -> None:
    """Print a finding, if its severity is one that is to be printed."""
    _report(finding.severity, finding.message, finding.code, finding.fix, finding.subject)


def _report(level: str, message: str, code: str = "", hint: str = "", subject: str = "") -> None:
    if level != "error" and _manner.quiet:
        return
    if level == "debug" and not _manner.debug:
        return
    if _manner.json_lines:
        import json  # noqa: PLC0415

        optional = {"code": code, "subject": subject, "hint": hint}
        entry = {"level": level, "message": message}
        entry |= {key: value for key, value in optional.items() if value}
        text = json.dumps(entry) + "\n"
    else:
        mark = f"{_coloured(level, level)}: " if level in _COLOURS else ""
        suffix = f" [{code}]" if code else ""
        text = f"cdi-gen: {mark}{printable(message)}{suffix}\n"
        if hint:
            text += f"  {_coloured('hint', 'hint')}: {printable(hint)}\n"
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody listens


def printable(text: str) -> str:
    """Names from the host are data: a newline or an escape sequence in one stays visible."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _coloured(text: str, kind: str) -> str:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty():
        return text
    return f"\033[{_COLOURS[kind]}m{text}\033[0m"
