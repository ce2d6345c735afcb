# SPDX-License-Identifier: Apache-2.0
"""The lock of ``refresh``: one process writes at a time, the others wait for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cdi_base import locks
from cdi_gen.errors import CdiGenError

NAME = "refresh.lock"
SECONDS = 300
"""How long a process waits. A refresh takes a second at most, but NVML can hang on a broken GPU."""


@contextmanager
def held(directory: str, seconds: float = SECONDS) -> Iterator[None]:
    """Hold the lock, after waiting for the process that has it.

    Raises:
        CdiGenError: the file cannot be opened, or another process holds the lock for too long.
    """
    path = f"{directory}/{NAME}"
    try:
        descriptor = locks.open_file(path)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        _take(descriptor, path, seconds)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str, seconds: float) -> None:
    try:
        is_taken = locks.take(descriptor, seconds)
    except OSError as error:
        raise _unusable(path, error) from error
    if not is_taken:
        raise CdiGenError(
            f"another refresh does not end: it holds {path}",
            hint=f"find the process with: fuser -v {path}",
            code="CDG-V002",
            subject=path,
        )


def _unusable(path: str, error: OSError) -> CdiGenError:
    return CdiGenError(
        f"cannot lock {path}: {error.strerror}",
        hint="run the command as root" if isinstance(error, PermissionError) else None,
        code="CDG-F004",
        subject=path,
    )
