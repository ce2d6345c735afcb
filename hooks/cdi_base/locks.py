# SPDX-License-Identifier: Apache-2.0
"""Locks among processes: flock(2) on a file or a directory.

The kernel releases the lock when the descriptor is closed, also that of a process that is killed.
The file stays, because a process that removed it could leave two others with a lock each.
"""

from __future__ import annotations

import fcntl
import os
import time

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.05
"""Seconds between two attempts: flock(2) itself would wait without a limit."""


def open_file(path: str, mode: int = 0o600) -> int:
    """Return a descriptor of a file to lock, which is created if it does not exist.

    Raises:
        OSError: it cannot be opened or created, or is a symbolic link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, mode)


def take(descriptor: int, seconds: float) -> bool:
    """Take the lock; return whether this process has it.

    Args:
        descriptor: of an open file or directory.
        seconds: how long to wait for another process; 0: not at all.

    Raises:
        OSError: the file system has no locks.
    """
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            return True
