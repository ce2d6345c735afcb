# SPDX-License-Identifier: Apache-2.0
"""Files that a person names on the command line, read without waiting for what may never come.

Opening a named pipe waits for a writer, and a device may have no end. So devices are refused, and a
pipe has to have a writer soon; what that writes is waited for, as it is on standard input:
``cdi-gen validate <(make-spec)`` names the pipe ``/dev/fd/63``.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time

from cdi_base.files import READ, beginning
from cdi_gen.errors import CdiGenError

SECONDS = 3
"""For somebody to open the other end of a pipe."""


def title(path: str) -> str:
    """What to call it in a message."""
    return "standard input" if path == "-" else path


def read(
    path: str, limit: int, *, what: str | None = None, hint: str | None = None
) -> tuple[bytes, os.stat_result]:
    """The first ``limit`` + 1 bytes at most, and what the system knows of the file.

    Args:
        path: the file; ``-``: standard input.
        limit: bytes that the caller takes; one more tells it that there are too many.
        what: what to call it in a message; None: by its path.
        hint: how to come by such a file, if it cannot be read.

    Raises:
        CdiGenError: it cannot be read, is neither a file nor a pipe, or nobody writes to it.
    """
    failed = f"cannot read {what or title(path)}"
    try:
        if path == "-":
            return beginning(0, limit + 1), os.fstat(0)
        if stat.S_IFMT(os.stat(path).st_mode) in {stat.S_IFCHR, stat.S_IFBLK}:
            raise CdiGenError(
                f"{failed}: it is neither a file nor a pipe",
                hint=hint,
                code="CDG-F002",
                subject=path,
            )
        descriptor = os.open(path, READ)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if stat.S_ISFIFO(found.st_mode):
                return _of_pipe(descriptor, limit, failed), found
            if not stat.S_ISREG(found.st_mode):
                raise CdiGenError(
                    f"{failed}: it is neither a file nor a pipe",
                    hint=hint,
                    code="CDG-F002",
                    subject=path,
                )
            return beginning(descriptor, limit + 1), found
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CdiGenError(
            f"{failed}: {error.strerror}", hint=hint, code="CDG-F001", subject=path
        ) from error


def _of_pipe(descriptor: int, limit: int, failed: str) -> bytes:
    content = bytearray()
    written_to = False
    until = time.monotonic() + SECONDS
    while len(content) <= limit:
        try:
            piece = os.read(descriptor, min(1 << 16, limit + 1 - len(content)))
        except BlockingIOError:
            # Nothing yet, but the other end is open.
            written_to = True
            select.select([descriptor], [], [])
            continue
        content += piece
        written_to = written_to or bool(piece)
        if not piece:
            if written_to:
                break
            if time.monotonic() > until:
                raise CdiGenError(
                    f"{failed}: it is a named pipe, and nobody wrote to it for {SECONDS} seconds",
                    hint="standard input is named -",
                    code="CDG-F003",
                )
            time.sleep(0.02)
    return bytes(content)
