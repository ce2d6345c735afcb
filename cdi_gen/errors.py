# SPDX-License-Identifier: Apache-2.0
"""The exit codes and the errors that carry them."""

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
    """No NVIDIA driver or no GPU: nothing to do. A systemd unit may count this as success.

    A driver that is loaded but not supported is an `ERROR`.
    """
    PARTIAL = 4
    """The spec was written without some devices."""
    STALE = 5
    """The existing file, or what is compared, differs from what it should be now; or ``refresh``
    holds the specs back."""
    INVALID_SPEC = 6
    UNSAFE = 7
    """Refused, because a user other than root could change what root would run."""
    INTERRUPTED = 130


class CdiGenError(Exception):
    """An error for the user: what happened, where, and what to do.

    ``code`` is a code of the table of findings, see ``docs/findings.md``. A class has a default
    code; a single error may have another one.
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
        """The file, device, option or engine that the error is about, or empty."""

    @property
    def finding(self) -> Finding:
        """The error as a finding."""
        from cdi_base.findings import Finding  # noqa: PLC0415 - most commands end without an error

        return Finding(self.code, "error", self.message, subject=self.subject, fix=self.hint or "")


class UsageError(CdiGenError):
    """The command line or a request of the caller is wrong."""

    exit_code = ExitCode.USAGE


class NoDriverError(CdiGenError):
    """The host has no NVIDIA driver, or the driver has no GPU."""

    exit_code = ExitCode.NO_DRIVER


class InvalidSpecError(CdiGenError):
    """A CDI spec violates the standard."""

    exit_code = ExitCode.INVALID_SPEC


class UnsafeError(CdiGenError):
    """The request is refused, because a user other than root could decide what root runs."""

    exit_code = ExitCode.UNSAFE


class InterruptedByUserError(CdiGenError):
    """The user pressed Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
    code = "CDG-X002"
