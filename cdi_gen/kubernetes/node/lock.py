# SPDX-License-Identifier: Apache-2.0
"""The lock by which one instance sets a host up: flock(2) on the pid file."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cdi_base import files
from cdi_base.files import read_beginning
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node import created_directories
from cdi_gen.paths import parent


@contextmanager
def host_lock(path: str) -> Iterator[None]:
    """Hold the lock; the file has the process id, and is removed at the end.

    The directories that did not exist before are removed too. The file lists them after the process
    id, for an instance after one that was killed.

    Raises:
        CdiGenError: another instance holds the lock, or the file cannot be written.
    """
    created = created_directories.missing([parent(path)])
    descriptor = _locked(path)
    try:
        created = created or _created_before(descriptor, path)
        lines = [str(os.getpid()), *created]
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, "".join(f"{line}\n" for line in lines).encode(), 0)
        except OSError as error:
            raise _unusable(path, f"cannot be written: {error.strerror}") from error
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)
            for directory in created:
                os.rmdir(directory)
        os.close(descriptor)


def _locked(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        try:
            files.make_directory(parent(path))
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise _unusable(path, f"cannot be opened: {error.strerror}") from error
        if not _is_pid_file(descriptor):
            os.close(descriptor)
            raise _unusable(path, "is a file of another program; it is left as it is")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The instance before us may have removed the file between our two calls.
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise CdiGenError(
                f"another instance sets this host up: it holds {path}{_owner(path)}",
                hint="wait for its end, or end it with SIGTERM; it undoes what it did",
                code="CDG-N401",
                subject=path,
            ) from None
        os.close(descriptor)


def _is_pid_file(descriptor: int) -> bool:
    """Whether it is a file with a process id, or an empty one."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    line = os.pread(descriptor, 1 << 12, 0).partition(b"\n")[0].strip()
    return not line or line.isdigit()


def _unusable(path: str, reason: str) -> CdiGenError:
    return CdiGenError(
        f"the pid file {path} {reason}",
        hint="give another file with --pid-file (TOOLKIT_PID_FILE)",
        code="CDG-N401",
        subject=path,
    )


def _created_before(descriptor: int, path: str) -> list[str]:
    """Return the directories above the file that an instance created which was killed."""
    lines = os.pread(descriptor, 1 << 12, 0).decode("utf-8", "replace").splitlines()[1:]
    return [line for line in lines if line and path.startswith(f"{line}/")]


def _owner(path: str) -> str:
    try:
        text = read_beginning(path, 20).decode("ascii").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ""
    return f", process {text}" if text.isdigit() else ""
