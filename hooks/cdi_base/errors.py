# SPDX-License-Identifier: Apache-2.0
"""How a hook ends when it cannot do its work: each fault is one line and one exit status."""

from __future__ import annotations


class HookError(Exception):
    """The container must not start like this (exit 1).

    ``code`` is a code of the table of findings: of the class, or of the single error.
    """

    status = 1
    code = ""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code or self.code


class UsageError(HookError):
    """The command line, which comes from the spec, makes no sense (exit 2)."""

    code = "CDG-K002"

    status = 2


class SkippedError(HookError):
    """A step could not be done here and nothing was half done; the container may start (exit 0)."""

    code = "CDG-K007"

    status = 0


def with_code(message: str, code: str) -> str:
    """A message as it is printed: the code of the finding comes after it."""
    return f"{message} [{code}]"


def shown(name: str) -> str:
    """A name out of an image, fit for a terminal and a log: quoted, escaped, at most 200 bytes."""
    return ascii(name)[:200]


EXPECTED = (HookError, OSError, MemoryError, RecursionError)
"""What a program catches where it ends: a fault of the container, the host or the input."""


def explain(error: BaseException) -> tuple[str, str]:
    """Return what to say of an error of `EXPECTED`, in one line, and its code."""
    if isinstance(error, HookError):
        return str(error), error.code
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.filename is not None:
            reason = f"{shown(str(error.filename))}: {reason}"
        return reason, "CDG-X003"
    return "out of memory", "CDG-X004"


def exit_status(error: BaseException) -> int:
    """Return the exit status of a program that an error of `EXPECTED` ends."""
    return error.status if isinstance(error, HookError) else 1
