# SPDX-License-Identifier: Apache-2.0
"""Reads the files that a user names on the command line, without waiting forever.

Opening a named pipe waits for a writer, and a device may have no end. Therefore devices are refused
and a pipe must have a writer within some seconds. The data of a writer may take any time, as on
standard input. In ``cdi-gen validate <(make-spec)`` the file is the pipe ``/dev/fd/63``.
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
"""The time for a writer to open the other end of a pipe."""


def display_name(path: str) -> str:
    """The name of the file in messages."""
    return "standard input" if path == "-" else path


def read(
    path: str, limit: int, *, name: str | None = None, hint: str | None = None
) -> tuple[bytes, os.stat_result]:
    """Return the content of a file or a pipe, at most ``limit`` + 1 bytes, and the file's status.

    Args:
        path: the file; ``-``: standard input.
        limit: the largest content in bytes; one more byte shows the caller that it is larger.
        name: the name of the file in messages; None: its path.
        hint: how to make such a file, for the case that it cannot be read.

    Raises:
        CdiGenError: the file cannot be read, is neither a file nor a pipe, or the pipe has no
            writer.
    """
    failure = f"cannot read {name or display_name(path)}"
    try:
        if path == "-":
            return beginning(0, limit + 1), os.fstat(0)
        if stat.S_IFMT(os.stat(path).st_mode) in {stat.S_IFCHR, stat.S_IFBLK}:
            raise _wrong_type(failure, hint, path)
        descriptor = os.open(path, READ)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if stat.S_ISFIFO(status.st_mode):
                return _read_pipe(descriptor, limit, failure), status
            if not stat.S_ISREG(status.st_mode):
                raise _wrong_type(failure, hint, path)
            return beginning(descriptor, limit + 1), status
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CdiGenError(
            f"{failure}: {error.strerror}", hint=hint, code="CDG-F001", subject=path
        ) from error


def _wrong_type(failure: str, hint: str | None, path: str) -> CdiGenError:
    message = f"{failure}: neither a file nor a pipe"
    return CdiGenError(message, hint=hint, code="CDG-F002", subject=path)


def _read_pipe(descriptor: int, limit: int, failure: str) -> bytes:
    content = bytearray()
    has_writer = False
    deadline = time.monotonic() + SECONDS
    while len(content) <= limit:
        try:
            chunk = os.read(descriptor, min(1 << 16, limit + 1 - len(content)))
        except BlockingIOError:
            # No data yet, but the other end is open.
            has_writer = True
            select.select([descriptor], [], [])
            continue
        content += chunk
        has_writer = has_writer or bool(chunk)
        if not chunk:
            if has_writer:
                break
            if time.monotonic() > deadline:
                raise CdiGenError(
                    f"{failure}: a named pipe without a writer for {SECONDS} seconds",
                    hint="for standard input give -",
                    code="CDG-F003",
                )
            time.sleep(0.02)
    return bytes(content)
