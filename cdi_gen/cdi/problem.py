# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a spec: where, what, and what an engine does about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from cdi_base.cdi.libraries import EVERY
from cdi_gen.errors import InvalidSpecError

if TYPE_CHECKING:
    from cdi_base.findings import Finding
    from cdi_base.findings import Severity as FindingSeverity

Severity = Literal["fatal", "error", "warning"]
"""``fatal``: every engine ignores the whole file. ``error``: some engines ignore it, or a container
that asks for the device does not start, everywhere or under a common runtime. ``warning``: it
works, but not everywhere, or not as meant."""

FILE_IGNORED = "every engine ignores the whole file: all its devices become unresolvable"

_SHOWN = 20


class Problem(NamedTuple):
    """One thing that is wrong with a spec."""

    path: str
    """Where: ``.devices[0].containerEdits.mounts[2].hostPath``, or ``line 3, column 5``."""
    message: str
    code: str
    """Of the table of findings, see ``docs/findings.md``."""
    consequence: str = FILE_IGNORED
    severity: Severity = "fatal"
    partly_refused_by: frozenset[str] = frozenset()
    """Releases of the standard's library that ignore the whole file, where not all do."""

    @property
    def refused_by(self) -> frozenset[str]:
        """Releases of the standard's library that ignore the whole file for it."""
        return EVERY if self.severity == "fatal" else self.partly_refused_by

    def finding(self, file: str, severity: FindingSeverity) -> Finding:
        """The problem as a finding of a command that reads the file among others."""
        from cdi_base.findings import Finding  # noqa: PLC0415 - most specs have no problem

        message = f"{file}: {self}: {self.consequence}"
        return Finding(self.code, severity, message, subject=file)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(InvalidSpecError):
    """A document is not a CDI spec; ``problems`` holds everything that is wrong with it.

    The code is that of the first problem.
    """

    code = "CDG-S103"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"and {len(self.problems) - _SHOWN} more")
        super().__init__(
            "not a CDI spec: " + "\n".join(lines),
            code=next((each.code for each in self.problems), ""),
        )
