# SPDX-License-Identifier: Apache-2.0
"""Keeps the result of the last refresh, for metrics: ``/run/cdi-gen/refresh-result.json``.

The record has only refreshes that looked at the host and succeeded.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any, NamedTuple

from cdi_base import strict_json, trust
from cdi_gen.refresh import record

NAME = "refresh-result.json"
MAX_BYTES = 4096


class RefreshResult(NamedTuple):
    """How a refresh ended."""

    time: float
    """When it ended, in seconds since the epoch."""
    exit_code: int


def write(exit_code: int, directory: str = record.DIRECTORY, *, is_new: bool = True) -> None:
    """Note the end of a refresh, if its directory exists and this user may write there.

    Args:
        exit_code: the exit code of the command.
        directory: the directory of the record.
        is_new: whether the refresh looked at the host; else only another exit code is noted.
    """
    last = None if is_new else load(directory)
    if not is_new and (last is None or last.exit_code == exit_code):
        return
    document = RefreshResult(round(time.time(), 3), int(exit_code))._asdict()
    # In place: a refresh that is killed leaves no other file, and several need no lock for it.
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(f"{directory}/{NAME}", flags, 0o644)
        try:
            os.ftruncate(descriptor, os.write(descriptor, json.dumps(document).encode()))
        finally:
            os.close(descriptor)


def load(directory: str = record.DIRECTORY) -> RefreshResult | None:
    """Return the last result; None if there is none that can be trusted and read."""
    try:
        document: Any = strict_json.parse(trust.read(f"{directory}/{NAME}", MAX_BYTES))
        result = RefreshResult(**document)
        is_valid = type(result.exit_code) is int and isinstance(result.time, int | float)
    except (OSError, ValueError, TypeError):
        return None
    return result if is_valid else None
