# SPDX-License-Identifier: Apache-2.0
"""Reads processes in /proc, each through a descriptor of its directory.

The descriptor stays with its process: after the process has ended every read fails with ESRCH, also
if another process has its number.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

from cdi_base import control_groups
from cdi_gen.containers.model import Process

MAX_BYTES = 1 << 16
MAX_MOUNTINFO = 4 << 20
"""A host with 200 containers has 100 KiB."""
MAX_DESCRIPTORS = 8192
"""Open files of a process that are looked at."""

GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EINVAL})
"""Error numbers of a process that has ended; EINVAL: it has no mounts any more."""
DENIED = frozenset({errno.EACCES, errno.EPERM})

_KERNEL_THREAD = 0x00200000
_PARENT, _FLAGS, START_TIME = 1, 6, 19
"""Fields of /proc/PID/stat, counted from the state, which follows the name."""


class ProcessDirectory:
    """The directory of a process; a context manager.

    Raises:
        OSError: no such process.
    """

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        self.pid = pid
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self.descriptor = os.open(f"{proc}/{pid}", flags)

    def __enter__(self) -> ProcessDirectory:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.descriptor)

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes:
        """Return the beginning of a file of the kernel.

        Raises:
            OSError: the process has ended, or this process may not read the file.
        """
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            content = os.read(descriptor, limit)
            while len(content) < limit and (piece := os.read(descriptor, limit - len(content))):
                content += piece
            return content
        finally:
            os.close(descriptor)

    def text(self, name: str, limit: int = MAX_BYTES) -> str:
        """Return the same as text, in which bytes that are not UTF-8 are kept."""
        return os.fsdecode(self.read(name, limit))

    def link(self, name: str) -> str:
        """Return the text of a link.

        Raises:
            OSError: as `read`.
        """
        return os.readlink(name, dir_fd=self.descriptor)

    def root(self) -> int:
        """Return an ``O_PATH`` descriptor of the root directory of the process.

        Raises:
            OSError: as `read`.
        """
        return os.open("root", os.O_PATH | os.O_CLOEXEC, dir_fd=self.descriptor)

    def words(self) -> list[str]:
        """Return the command line, which the process can change.

        Raises:
            OSError: as `read`.
        """
        return self.text("cmdline").split("\0")[:-1]

    def open_files(self) -> Iterator[str]:
        """Yield the paths of open files, as links name them.

        Raises:
            OSError: as `read`.
        """
        directory = os.open(
            "fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor
        )
        try:
            for number in os.listdir(directory)[:MAX_DESCRIPTORS]:
                with suppress(OSError):  # closed in the meantime
                    yield os.readlink(number, dir_fd=directory)
        finally:
            os.close(directory)


def processes(proc: str = "/proc") -> list[Process]:
    """Return all processes, without the kernel's own, in the order of their numbers."""
    pids = sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    return [process for pid in pids if (process := process_of(pid, proc)) is not None]


def process_of(pid: int, proc: str = "/proc") -> Process | None:
    """Return a process; None if it has ended, or is one of the kernel's."""
    try:
        with ProcessDirectory(pid, proc) as directory:
            return read_process(directory)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in GONE | DENIED:
            raise
        return None


def is_same(directory: ProcessDirectory, process: Process) -> bool:
    """Whether an open directory is of this process, not of a later one with its number.

    Raises:
        OSError: the process has ended.
    """
    _, _, after = directory.text("stat", 4096).rpartition(")")
    return int(after.split()[START_TIME]) == process.start_time


def read_process(directory: ProcessDirectory) -> Process | None:
    """Return a process; None if it is one of the kernel's.

    Raises:
        OSError: the process has ended, or this process may not read its files.
        ValueError: its files are not the kernel's.
    """
    # The name is in parentheses and may contain some: the last one ends it.
    before, _, after = directory.text("stat", 4096).rpartition(")")
    fields = after.split()
    if int(fields[_FLAGS]) & _KERNEL_THREAD:
        return None
    groups = control_groups.memberships(directory.text("cgroup"))
    return Process(
        pid=directory.pid,
        start_time=int(fields[START_TIME]),
        parent=int(fields[_PARENT]),
        name=before.partition("(")[2],
        user=os.stat(".", dir_fd=directory.descriptor).st_uid,
        mount_namespace=_namespace(directory, "mnt"),
        groups=tuple(groups.items()),
    )


def _namespace(directory: ProcessDirectory, kind: str) -> int | None:
    try:
        text = directory.link(f"ns/{kind}")
    except OSError as error:
        if error.errno in DENIED:
            return None
        raise
    return int(text.partition("[")[2].rstrip("]"))
