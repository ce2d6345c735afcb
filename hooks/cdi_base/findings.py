# SPDX-License-Identifier: Apache-2.0
"""A finding: a value that describes an error, a warning, or something missing or left out.

Errors, warnings, log lines and the tables of the commands are views of findings. The general
meaning of a code, its usual cause and its fix are data in ``specs/cdi_specs/findings.json``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal  # noqa: TID251

    Severity = Literal["debug", "info", "warning", "error"]

SEVERITIES: tuple[Severity, ...] = ("debug", "info", "warning", "error")
"""In rising order. ``error``: the work was not done. ``warning``: the work was done, but something
is wrong. ``info``: information for the user. ``debug``: details for troubleshooting."""


class Finding:
    """A finding. It is not changed after it is created."""

    __slots__ = ("code", "fix", "message", "severity", "source", "subject")

    def __init__(
        self,
        code: str,
        severity: Severity,
        message: str,
        *,
        subject: str = "",
        fix: str = "",
        source: str = "",
    ) -> None:
        """Create a finding.

        Args:
            code: a code of the table of findings, ``CDG-…``.
            severity: how serious the finding is in this case.
            message: what happened, in one line that is complete without the other fields.
            subject: the file, device, option or engine that the finding is about; empty: see the
                message.
            fix: what to do in this case; empty: the fix in the table of findings.
            source: the file or program that the finding was read from; empty: the subject itself.
        """
        self.code = code
        self.severity = severity
        self.message = message
        self.subject = subject
        self.fix = fix
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Finding) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash(tuple(self.fields().values()))

    def __repr__(self) -> str:
        return f"Finding({', '.join(f'{name}={value!r}' for name, value in self.fields().items())})"

    def fields(self) -> dict[str, str]:
        """Return all fields by name, in the order of their importance, for a JSON document."""
        names = ("code", "severity", "subject", "message", "fix", "source")
        return {name: getattr(self, name) for name in names}
