# SPDX-License-Identifier: Apache-2.0
"""Errors of the hooks: each is one line and one exit status."""

from __future__ import annotations


class HookError(Exception):
    """An error for which the container must not start (exit 1).

    ``code`` is a code of the table of findings; an error's own code overrides that of its class.
    """

    status = 1
    code = ""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code or self.code


class UsageError(HookError):
    """The command line, which the spec gives, is invalid (exit 2)."""

    code = "CDG-K002"

    status = 2


class SkippedError(HookError):
    """A step was left out, as a whole; the container may start (exit 0)."""

    code = "CDG-K007"

    status = 0


def with_code(message: str, code: str) -> str:
    """Return a message as it is printed, with the code of the finding after it."""
    return f"{message} [{code}]"


def shown(name: str) -> str:
    """Return untrusted text for a terminal or a log: quoted, escaped, at most 200 characters."""
    return ascii(name)[:200]


def printable(text: str) -> str:
    """Return a line for a terminal or a log, with every character escaped that is not printable.

    A name of the image or the host may have a newline or an escape sequence of the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


EXPECTED = (HookError, OSError, MemoryError, RecursionError)
"""The errors that a program's main function catches: of the container, the host or the input."""


def explain(error: BaseException) -> tuple[str, str]:
    """Return the message of an error of `EXPECTED`, in one line, and its code."""
    if isinstance(error, HookError):
        return str(error), error.code
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.filename is not None:
            reason = f"{shown(str(error.filename))}: {reason}"
        return reason, "CDG-X003"
    return "out of memory", "CDG-X004"


def exit_status(error: BaseException) -> int:
    """Return the exit status of a program that ends by an error of `EXPECTED`."""
    return error.status if isinstance(error, HookError) else 1
