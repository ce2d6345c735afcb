# SPDX-License-Identifier: Apache-2.0
"""Writes the data of commands to standard output, and aligns tables."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence


def print_data(text: str) -> None:
    """Write data to standard output, in one piece."""
    sys.stdout.write(text)
    sys.stdout.flush()


def aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """Return a table as text, with columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def redirected_to_spec() -> str | None:
    """Return the spec file to which standard output is redirected, if it is empty.

    The shell has emptied the file when it opened it.
    """
    try:
        status = os.fstat(1)
        path = os.readlink("/proc/self/fd/1")
    except OSError:
        return None
    if stat.S_ISREG(status.st_mode) and status.st_size == 0 and path.endswith((".json", ".yaml")):
        return path
    return None
