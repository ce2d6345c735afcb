# SPDX-License-Identifier: Apache-2.0
"""Enters the namespaces of a container that exists already.

A process that has entered them cannot leave them, so a child process does the work there.
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
"""Names in /proc/PID/ns. The user namespace is entered last: a process in it may not enter
namespaces of its parent."""

MAX_MESSAGE = 4096
GRACE_PERIOD = 1.0
"""Seconds that the child has to undo its work after SIGTERM."""

_SIGTERM = 15


class Namespaces:
    """The namespaces of a process that differ from the caller's.

    They are kept as descriptors, because a process number can be reused.
    """

    __slots__ = ("_descriptors", "_pid", "_root", "process")

    def __init__(self, pid: int) -> None:
        """Open the namespaces.

        Raises:
            HookError: the process does not exist, may not be inspected, or has the host's mounts.
        """
        self._pid = pid
        self._root = os.stat("/")
        try:
            self.process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._descriptors = {
                kind: descriptor
                for kind in KINDS
                if (descriptor := _open_other(self.process, kind)) is not None
            }
        except (FileNotFoundError, ProcessLookupError):
            raise HookError(
                f"the container's process {pid} does not exist", code="CDG-T301"
            ) from None
        except PermissionError:
            raise HookError(
                f"no permission to enter the namespaces of the container's process {pid}",
                code="CDG-T301",
            ) from None
        if MOUNT not in self._descriptors or _is_of_first_process(self._descriptors[MOUNT]):
            raise HookError(
                f"process {pid} is not a container's process: it has the host's mount namespace",
                code="CDG-T301",
            )

    def has_own(self, kind: str) -> bool:
        """Whether the container's namespace of this kind differs from the caller's."""
        return kind in self._descriptors

    def enter(self, kinds: Iterable[str] = KINDS) -> None:
        """Enter namespaces; only a child process may. A PID namespace applies to its children.

        In a user namespace the process becomes root of the namespace.

        Raises:
            HookError: see `check_root`.
        """
        selected = set(kinds)
        for kind, descriptor in self._descriptors.items():
            if kind in selected:
                syscalls.setns(descriptor)
        if MOUNT in selected:
            self.check_root()
        if USER in selected and USER in self._descriptors:
            if _may_set_groups():
                os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)

    def check_root(self) -> None:
        """Check that `/` is still the host's root: paths of the host are opened and executed.

        Raises:
            HookError: the container has called pivot_root(2), and `/` is the image.
        """
        # setns(2) sets `/` to the namespace's root, and pivot_root(2) moves all processes there.
        if not same_file(self._root, os.stat("/")):
            raise HookError(
                f"the container's process {self._pid} has already left the host's root, so / is "
                "the image; a prestart hook must run before that",
                code="CDG-T302",
            )


def _may_set_groups() -> bool:
    """Whether setgroups(2) is allowed; rootless engines deny it in their user namespace."""
    return read_beginning("/proc/self/setgroups", 16).strip() == b"allow"


def _open_other(process: int, kind: str) -> int | None:
    """Return a descriptor of a process's namespace; None if the caller is in the same."""
    try:
        own = os.stat(f"/proc/self/ns/{kind}")
        descriptor = os.open(f"ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    except FileNotFoundError:
        # The kernel lacks this kind of namespace. All kernels have mount namespaces, so there it
        # means that the process has ended.
        if kind == MOUNT:
            raise
        return None
    if not same_file(own, os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    return None


def _is_of_first_process(mounts: int) -> bool:
    """Whether a mount namespace is that of process 1, which an engine need not be in itself."""
    try:
        return same_file(os.fstat(mounts), os.stat("/proc/1/ns/mnt"))
    except (PermissionError, FileNotFoundError):
        # Only root can read this. For other users the kernel decides what they may enter.
        return False


def run_in_child(work: Work, until: float) -> None:
    """Run the work in a child process, until a deadline.

    Raises:
        HookError: the work has raised an error (with its message and code), or did not end in time.
    """
    try:
        status, output = child.run_forked(
            lambda _stdin, report: _run_and_exit(work, report),
            until,
            most=MAX_MESSAGE,
            grace=GRACE_PERIOD,
        )
    except TimeoutError:
        raise HookError(
            "attaching nodes and mounts to the container took too long", code="CDG-T303"
        ) from None
    if status != 0:
        code, _, message = output.partition("\n")
        default = f"the process in the container's namespaces ended with exit status {status}"
        raise HookError(message or default, code=code or "CDG-T303")


def _run_and_exit(work: Work, report: int) -> None:
    """Run the work in the child; never returns. Signals raise errors here too, so work is undone.

    Args:
        work: the function to run.
        report: a descriptor to which code and message of an error are written.
    """
    status, lines = 1, ("", "")
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGTERM)
        work()
        status = 0
    except EXPECTED as error:
        message, code = explain(error)
        lines = code, message
    finally:
        os.write(report, "\n".join(lines).encode("utf-8", "backslashreplace")[:MAX_MESSAGE])
        os._exit(status)
