# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, said once: the exit codes and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdi_base.findings import Finding


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
    """An error for a person: what happened and where, and what to do about it.

    ``code`` is a code of the table of findings, see ``docs/findings.md``: of the class, or of the
    single error.
    """

    exit_code = ExitCode.ERROR
    code = ""

    def __init__(
        self, message: str, *, hint: str | None = None, code: str = "", subject: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.code
        self.subject = subject
        """The file, device, option or engine that the error is about; empty: see the message."""

    @property
    def finding(self) -> Finding:
        """The error as a finding."""
        from cdi_base.findings import Finding  # noqa: PLC0415 - most commands end without an error

        return Finding(self.code, "error", self.message, subject=self.subject, fix=self.hint or "")


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
    code = "CDG-X002"
