# SPDX-License-Identifier: Apache-2.0
"""Prints messages for the user on standard error. Standard output is for data only."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from cdi_base.errors import printable

if TYPE_CHECKING:
    from cdi_base.findings import Finding

_COLOURS = {"error": "31;1", "warning": "33;1", "hint": "36"}

MAX_TEXT = 4000
"""Characters of a message: a value of the command line or of a hostile file may have millions."""


class Options(NamedTuple):
    """Which messages are printed, and in which format."""

    quiet: bool = False
    debug: bool = False
    json_lines: bool = False
    """Print each message as a JSON object on one line, for log collectors."""


_options = Options()


def configure(*, quiet: bool, debug: bool, json_lines: bool) -> None:
    """Set the options for the rest of this process."""
    global _options  # noqa: PLW0603 - set once, when the process starts
    _options = Options(quiet=quiet, debug=debug, json_lines=json_lines)


def is_debug() -> bool:
    """Whether messages for debugging are printed."""
    return _options.debug and not _options.quiet


def note(message: str, *, code: str = "") -> None:
    """Print a result, which has no code, or an information with its code."""
    _print("info", message, code)


def warning(message: str, *, code: str, hint: str = "", subject: str = "") -> None:
    """Print a warning."""
    _print("warning", message, code, hint, subject)


def error(message: str, *, code: str, hint: str = "", subject: str = "") -> None:
    """Print the error that ends the command."""
    _print("error", message, code, hint, subject)


def report(finding: Finding) -> None:
    """Print a finding, if the options include its severity."""
    _print(finding.severity, finding.message, finding.code, finding.fix, finding.subject)


def _print(level: str, message: str, code: str = "", hint: str = "", subject: str = "") -> None:
    if level != "error" and _options.quiet:
        return
    if level == "debug" and not _options.debug:
        return
    message, hint, subject = map(_shortened, (message, hint, subject))
    if _options.json_lines:
        import json  # noqa: PLC0415

        optional = {"code": code, "subject": subject, "hint": hint}
        entry = {"level": level, "message": message}
        entry |= {key: value for key, value in optional.items() if value}
        text = json.dumps(entry) + "\n"
    else:
        prefix = f"{_coloured(level, level)}: " if level in _COLOURS else ""
        suffix = f" [{code}]" if code else ""
        text = f"cdi-gen: {prefix}{printable(message)}{suffix}\n"
        if hint:
            text += f"  {_coloured('hint', 'hint')}: {printable(hint)}\n"
    write(text)


def write(text: str) -> None:
    """Write text to standard error; a stream that is closed or full does not change the result."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        discard(2)


def discard(descriptor: int) -> None:
    """Let a standard stream that failed drop what is still in its buffer."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    except OSError:
        return  # a chroot without /dev: writing fails again


def _shortened(text: str) -> str:
    """Return the text without its middle, if a name or a value in it is longer than anybody reads.

    A message ends with the reason, so the end is kept.
    """
    left_out = len(text) - MAX_TEXT
    if left_out <= 0:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}... ({left_out} characters) ...{text[-half:]}"


def _coloured(text: str, kind: str) -> str:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty():
        return text
    return f"\033[{_COLOURS[kind]}m{text}\033[0m"
