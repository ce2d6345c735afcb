# SPDX-License-Identifier: Apache-2.0
"""A check of ``cdi-gen doctor``, and its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from cdi_base.findings import Finding
    from cdi_gen.doctor.host import Host

GROUPS = {
    "driver": "Driver",
    "device-nodes": "Device nodes",
    "specs": "Specs",
    "engines": "Engines",
    "security": "Security",
    "rootless": "Rootless",
    "sharing": "MIG, MPS and time-slicing",
    "fabric": "Fabric",
    "kubernetes": "Kubernetes node",
    "images": "Images",
}
"""The groups in the order of the output, with their titles."""

Status = Literal["ok", "warning", "fault", "unseen", "not-applicable"]
STATUSES: tuple[Status, ...] = ("ok", "warning", "fault", "unseen", "not-applicable")


class NotApplicable(Exception):  # noqa: N818 - a result, and not an error
    """The host has nothing of the kind that the check examines. The message says what it lacks."""


class Unseen(Exception):  # noqa: N818 - as above
    """The check cannot see what it examines."""

    def __init__(self, reason: str, fix: str = "") -> None:
        """Create the result.

        Args:
            reason: what cannot be seen, and why; a message that is complete alone.
            fix: what to run to see it; empty: the same check as root.
        """
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class Check(NamedTuple):
    """One check. It reads the host through `Host` only, so that a report can be examined too."""

    name: str
    """What the user types: words with hyphens, unique and stable."""
    group: str
    """A key of `GROUPS`."""
    title: str
    """What is true if all is well, in one line."""
    examine: Callable[[Host], Iterable[Finding]]
    """Yields what is wrong: an ``error`` is a fault, a ``warning`` a warning, an ``info`` a note
    about a host that is well.

    Raises:
        NotApplicable: there is nothing to examine.
        Unseen: this user, or this report, does not show what is examined.
    """


class Result(NamedTuple):
    """The result of one check."""

    check: Check
    status: Status
    line: str
    """The title if all is well; else the message of the worst finding, or why nothing is seen."""
    findings: tuple[Finding, ...] = ()
    """The findings, worst first."""
    fix: str = ""
    """Of an unseen check: what to run to see."""
