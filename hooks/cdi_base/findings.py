# SPDX-License-Identifier: Apache-2.0
"""A finding: one thing that is missing, left out, refused or warned of, as a value.

Errors, warnings, log lines and the tables of the commands are views of findings. What a code means
in general, its usual cause and its remedy, is data: ``specs/cdi_specs/findings.json``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal  # noqa: TID251

    Severity = Literal["debug", "info", "warning", "error"]

SEVERITIES: tuple[Severity, ...] = ("debug", "info", "warning", "error")
"""In rising order. ``error``: the work was not done. ``warning``: the work was done, and something
is not as it should be. ``info``: good to know. ``debug``: details for the search for a fault."""


class Finding:
    """A finding. It is not changed after it is made."""

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
        """Make a finding.

        Args:
            code: ``CDG-`` and a key of the table of codes.
            severity: how serious the finding is in this case.
            message: what is the case, in one line that is complete without the other fields.
            subject: the file, device, option or engine that the finding is about; empty: see the
                message.
            fix: what to do in this case; empty: what the table of codes says.
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
