# SPDX-License-Identifier: Apache-2.0
"""A fault of a spec, and the releases of the library that reject the spec for it."""

from __future__ import annotations

from cdi_base.cdi.libraries import EVERY, NONE
from cdi_base.errors import HookError


class Fault:
    """A fault and its place in the document.

    `code` is a code of the table of findings, `path` for example
    `.devices[0].containerEdits.env[2]`. `refused_by` are the releases that ignore the whole file
    because of the fault; `consequence` is its effect otherwise. A fault that may be intended is
    `slight`. `among` are the allowed names, if a name is unknown.
    """

    __slots__ = ("among", "code", "consequence", "message", "path", "refused_by", "slight")

    def __init__(
        self,
        path: str,
        message: str,
        refused_by: frozenset[str] = EVERY,
        *,
        code: str,
        consequence: str = "",
        slight: bool = False,
        among: tuple[str, ...] = (),
    ) -> None:
        self.code = code
        self.path = path
        self.message = message
        self.refused_by = refused_by
        self.consequence = consequence
        self.slight = slight
        self.among = among

    def remains_beside(self, claim: Fault) -> bool:
        """Whether this fault says more than `claim`, the fault that the claimed version is too new.

        Releases that reject the file for the version are removed from `refused_by`.
        """
        if self.refused_by in {NONE, EVERY} or claim.refused_by == EVERY:
            return True
        self.refused_by -= claim.refused_by
        return self.refused_by != NONE

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class TooMuchError(HookError):
    """A document has more values, or more faults, than the limits allow."""

    code = "CDG-S002"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(str(faults[-1]))
        self.faults = faults
