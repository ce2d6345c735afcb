# SPDX-License-Identifier: Apache-2.0
"""The lock by which one instance sets a host up: flock(2) on the pid file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cdi_base import locks
from cdi_base.files import read_beginning
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node import created_directories
from cdi_gen.paths import base_name, parent


@contextmanager
def host_lock(path: str) -> Iterator[None]:
    """Hold the lock; the file has the process id, and is removed at the end.

    The directories that did not exist before are removed too. The file lists them after the process
    id, for an instance after one that was killed.

    Raises:
        CdiGenError: another instance holds the lock, or the file cannot be written.
    """
    path = os.path.abspath(path)
    descriptor = _locked(path)
    created: list[str] = []
    try:
        try:
            noted = {*created_directories.discard_partial(path), *_created_before(descriptor, path)}
            created = sorted(noted, key=len, reverse=True)
            lines = [str(os.getpid()), *created]
            content = "".join(f"{line}\n" for line in lines).encode()
            # In this order, so that the directories are noted if the process is killed between.
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        except OSError as error:
            raise _unusable(path, f"cannot be written: {error.strerror}") from error
        yield
    finally:
        with suppress(OSError):
            created_directories.remove(path, created)
        os.close(descriptor)


def _locked(path: str) -> int:
    while True:
        try:
            _make_directory(path)
            descriptor = locks.open_file(path, 0o644)
        except OSError as error:
            raise _unusable(path, f"cannot be opened: {error.strerror}") from error
        if not _is_pid_file(descriptor):
            os.close(descriptor)
            raise _unusable(path, "is a file of another program; it is left as it is")
        is_taken = locks.take(descriptor, 0)
        # The instance before us may have removed the file between our two calls.
        if is_taken and _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)
        if not is_taken:
            raise CdiGenError(
                f"another instance sets this host up: it holds {path}{_owner(path)}",
                hint="wait for its end, or end it with SIGTERM; it undoes what it did",
                code="CDG-N401",
                subject=path,
            )


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _make_directory(path: str) -> None:
    """Create the directory of the file, with the file, if it does not exist."""
    directory = parent(path)
    if os.path.isdir(directory):
        return
    try:
        created_directories.make(directory, base_name(path), str(os.getpid()))
    except OSError:
        if not os.path.isdir(directory):  # no other instance has created it
            raise


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
