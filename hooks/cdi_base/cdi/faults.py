# SPDX-License-Identifier: Apache-2.0
"""One thing that is wrong with a spec, and by which releases of the library it is refused."""

from __future__ import annotations

from cdi_base.cdi.libraries import EVERY, NONE
from cdi_base.errors import HookError


class Fault:
    """What is wrong, and where.

    `code` is of the table of findings. `path` is as `.devices[0].containerEdits.env[2]`.
    `refused_by` are the releases that ignore the whole file for it; `consequence` is what comes of
    it otherwise. It is `slight` where a writer may have meant it so. `among` are the names that an
    unknown one could have been.
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
        """Whether there is more to say than that releases refuse the version that is claimed.

        Those refuse the file anyway, and need not be told to refuse it twice.
        """
        if self.refused_by in {NONE, EVERY} or claim.refused_by == EVERY:
            return True
        self.refused_by -= claim.refused_by
        return self.refused_by != NONE

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class TooMuchError(HookError):
    """A document has more values, or more faults, than are looked at."""

    code = "CDG-S002"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(str(faults[-1]))
        self.faults = faults
