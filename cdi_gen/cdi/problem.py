# SPDX-License-Identifier: Apache-2.0
"""Problems of a spec: the place, the message, and the effect on engines and containers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from cdi_base.cdi.libraries import EVERY
from cdi_gen.errors import InvalidSpecError

if TYPE_CHECKING:
    from cdi_base.findings import Finding
    from cdi_base.findings import Severity as FindingSeverity

Severity = Literal["fatal", "error", "warning"]
"""``fatal``: every engine ignores the whole file. ``error``: some engines ignore the file, or a
container that requests the device does not start, at least under one common runtime. ``warning``:
the spec works, but not everywhere, or perhaps not as intended."""

FILE_IGNORED = "every engine ignores the whole file: all its devices become unresolvable"

_MOST_LINES = 20


class Problem(NamedTuple):
    """A problem of a spec."""

    path: str
    """``.devices[0].containerEdits.mounts[2].hostPath``, or ``line 3, column 5``."""
    message: str
    code: str
    """A code from the table of findings, see ``docs/findings.md``."""
    consequence: str = FILE_IGNORED
    severity: Severity = "fatal"
    partly_refused_by: frozenset[str] = frozenset()
    """Releases of the standard's library that ignore the whole file; not used if it is fatal."""

    @property
    def refused_by(self) -> frozenset[str]:
        """Releases of the standard's library that ignore the whole file for this problem."""
        return EVERY if self.severity == "fatal" else self.partly_refused_by

    def finding(self, file: str, severity: FindingSeverity) -> Finding:
        """Return the problem as a finding about ``file``, with the given severity."""
        from cdi_base.findings import Finding  # noqa: PLC0415 - most specs have no problem

        message = f"{file}: {self}: {self.consequence}"
        return Finding(self.code, severity, message, subject=file)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(InvalidSpecError):
    """A document is not a CDI spec; ``problems`` lists the reasons.

    The code is the code of the first problem.
    """

    code = "CDG-S103"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:_MOST_LINES]]
        if len(self.problems) > _MOST_LINES:
            lines.append(f"and {len(self.problems) - _MOST_LINES} more")
        super().__init__(
            "not a CDI spec: " + "\n".join(lines),
            code=next((problem.code for problem in self.problems), ""),
        )
