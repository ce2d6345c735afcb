# SPDX-License-Identifier: Apache-2.0
"""The namespaces of a container that exists already, and work that is done in them.

A process that has entered them does not come back: each piece of work has a child of its own.
"""

from __future__ import annotations

import os

from cdi_base import child, syscalls
from cdi_base.errors import EXPECTED, HookError, explain
from cdi_base.files import read_beginning, same_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Work = Callable[[], None]

MOUNT, USER = "mnt", "user"
KINDS = ("cgroup", "ipc", "net", "pid", "uts", MOUNT, USER)
"""As /proc/PID/ns calls them. The user namespace last: whoever is in it may enter no other of its
parent's."""

MAX_SAID = 4096
PATIENCE = 1.0
"""Seconds that a child has to undo what it did, when it is told to end."""

_SIGTERM = 15


class Namespaces:
    """Those of a process that are not this one's, as descriptors: a number may be given anew."""

    __slots__ = ("_number", "_others", "_root", "process")

    def __init__(self, number: int) -> None:
        """Open them.

        Raises:
            HookError: the process is not there, may not be looked at, or has the caller's mounts.
        """
        self._number = number
        self._root = os.stat("/")
        try:
            self.process = os.open(f"/proc/{number}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._others = {
                kind: descriptor
                for kind in KINDS
                if (descriptor := _other(self.process, kind)) is not None
            }
        except (FileNotFoundError, ProcessLookupError):
            raise HookError(
                f"process {number}, the container's, is not there", code="CDG-T301"
            ) from None
        except PermissionError:
            raise HookError(
                f"the namespaces of process {number} may not be entered", code="CDG-T301"
            ) from None
        if MOUNT not in self._others or _is_of_first_process(self._others[MOUNT]):
            raise HookError(
                f"process {number} has the host's mounts, and no container's: refused",
                code="CDG-T301",
            )

    def has_own(self, kind: str) -> bool:
        """Whether the container's namespace of this kind is another than the caller's."""
        return kind in self._others

    def enter(self, kinds: Iterable[str] = KINDS) -> None:
        """Go there: for good, and only in a child. A PID namespace takes effect for its children.

        In a user namespace the process becomes its root.

        Raises:
            HookError: see `check_root`.
        """
        wanted = set(kinds)
        for kind, descriptor in self._others.items():
            if kind in wanted:
                syscalls.setns(descriptor)
        if MOUNT in wanted:
            self.check_root()
        if USER in wanted and USER in self._others:
            if _may_set_groups():
                os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)

    def check_root(self) -> None:
        """Make sure that `/` is the host's here: what is opened or run by its path is believed.

        Raises:
            HookError: the container has pivoted, and `/` is the image.
        """
        # Entering sets it to the namespace's root; pivot_root(2) moves whoever is there along.
        if not same_file(self._root, os.stat("/")):
            raise HookError(
                f"process {self._number} has left the host's root already, and / is the image: "
                "refused. A prestart hook runs before that",
                code="CDG-T302",
            )


def _may_set_groups() -> bool:
    """Not in the user namespace of a rootless engine that has given it up."""
    return read_beginning("/proc/self/setgroups", 16).strip() == b"allow"


def _other(number: int, kind: str) -> int | None:
    try:
        own = os.stat(f"/proc/self/ns/{kind}")
        descriptor = os.open(f"ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=number)
    except FileNotFoundError:
        # A kernel without this kind; that of the process itself is noticed by the others.
        if kind == MOUNT:
            raise
        return None
    if not same_file(own, os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    return None


def _is_of_first_process(mounts: int) -> bool:
    """Whether it is where process 1 is: an engine may have mounts of its own, apart from those."""
    try:
        return same_file(os.fstat(mounts), os.stat("/proc/1/ns/mnt"))
    except (PermissionError, FileNotFoundError):
        # Only root sees that; for others the kernel decides what they may enter.
        return False


def in_a_child(work: Work, until: float) -> None:
    """Do the work in a child, within the deadline.

    Raises:
        HookError: what the work raised, in its own words; or it was not done in time.
    """
    try:
        status, output = child.run_forked(
            lambda _reading, talking: _be_the_child(work, talking),
            until,
            most=MAX_SAID,
            grace=PATIENCE,
        )
    except TimeoutError:
        raise HookError(
            "the work in the container's namespaces was not done in time", code="CDG-T303"
        ) from None
    if status != 0:
        code, _, message = output.partition("\n")
        ended = f"a process in the container's namespaces ended with {status}"
        raise HookError(message or ended, code=code or "CDG-T303")


def _be_the_child(work: Work, talking: int) -> None:
    """It never returns; signals are faults here as well, so that what is half done is undone."""
    status, said = 1, ("", "")
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGTERM)
        work()
        status = 0
    except EXPECTED as error:
        message, code = explain(error)
        said = code, message
    finally:
        os.write(talking, "\n".join(said).encode("utf-8", "backslashreplace")[:MAX_SAID])
        os._exit(status)
