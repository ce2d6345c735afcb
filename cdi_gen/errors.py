# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, said once: the exit codes and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; they are part of the interface."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NO_DRIVER = 3
    """No NVIDIA driver, or no GPU: there is nothing to do, so a unit may call it success.

    A driver that is there and cannot be served is an error.
    """
    PARTIAL = 4
    """Something was written, but a device was left out."""
    STALE = 5
    """What is there differs from what would be written now."""
    INVALID_SPEC = 6
    UNSAFE = 7
    """Refused: somebody other than root could change what root would run."""
    INTERRUPTED = 130


class CdiGenError(Exception):
    """An error for a person: what happened and where, and what to do about it."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CdiGenError):
    """The request itself makes no sense."""

    exit_code = ExitCode.USAGE


class NoDriverError(CdiGenError):
    """The host has no NVIDIA driver, or the driver has no GPU."""

    exit_code = ExitCode.NO_DRIVER


class InvalidSpecError(CdiGenError):
    """A CDI spec breaks the standard."""

    exit_code = ExitCode.INVALID_SPEC


class UnsafeError(CdiGenError):
    """Doing it would let somebody other than root decide what root runs."""

    exit_code = ExitCode.UNSAFE


class InterruptedByUserError(CdiGenError):
    """Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
