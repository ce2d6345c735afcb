# SPDX-License-Identifier: Apache-2.0
"""The lock of ``refresh``: one process writes at a time, the others wait for it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cdi_gen.errors import CdiGenError

NAME = "refresh.lock"
SECONDS = 300
"""How long a process waits. A refresh takes a second at most, but NVML can hang on a broken GPU."""
PAUSE_SECONDS = 0.05


@contextmanager
def held(directory: str, seconds: float = SECONDS) -> Iterator[None]:
    """Hold the lock, after waiting for the process that has it.

    The kernel releases the lock of a process that is killed. The file stays, because a process that
    removed it could leave two others with a lock each.

    Raises:
        CdiGenError: the file cannot be opened, or another process holds the lock for too long.
    """
    path = f"{directory}/{NAME}"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        _wait(descriptor, path, time.monotonic() + seconds)
        yield
    finally:
        os.close(descriptor)


def _unusable(path: str, error: OSError) -> CdiGenError:
    return CdiGenError(
        f"cannot lock {path}: {error.strerror}",
        hint="run the command as root" if isinstance(error, PermissionError) else None,
        code="CDG-F004",
        subject=path,
    )


def _wait(descriptor: int, path: str, deadline: float) -> None:
    while not _is_locked(descriptor, path):
        if time.monotonic() > deadline:
            raise CdiGenError(
                f"another refresh does not end: it holds {path}",
                hint=f"find the process with: fuser -v {path}",
                code="CDG-V002",
                subject=path,
            )
        time.sleep(PAUSE_SECONDS)


def _is_locked(descriptor: int, path: str) -> bool:
    """Try to take the lock; return whether this process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _unusable(path, error) from error
    return True
