# SPDX-License-Identifier: Apache-2.0
"""The host's ldconfig: only a static one, which loads nothing of the image it is shown."""

from __future__ import annotations

import errno
import os
import stat
import struct

from cdi_hook import process
from cdi_hook.arguments import checked_path
from cdi_hook.faults import HookError, SkippedError, shown

DEFAULT_PATHS = ("/sbin/ldconfig.real", "/sbin/ldconfig", "/usr/sbin/ldconfig")
"""On Ubuntu /sbin/ldconfig is a shell script around ldconfig.real."""

MAX_SIZE = 16 << 20
MAX_PROGRAM_HEADERS = 64
_PT_INTERP = 3


def candidates(argument: str | None) -> tuple[str, ...]:
    """Where to look for it; `argument` may begin with `@`, as the peer's configuration has it.

    Raises:
        UsageError: the argument is not an absolute path.
    """
    if argument is None:
        return DEFAULT_PATHS
    path = checked_path(argument.removeprefix("@"))
    return (f"{path}.real", path)


def open_static(paths: tuple[str, ...]) -> int:
    """A descriptor of the first static ldconfig.

    Raises:
        SkippedError: there is none.
        HookError: somebody other than root may change one of them.
    """
    for path in paths:
        descriptor = _open_trusted(path)
        if descriptor is None:
            continue
        if is_static(descriptor):
            return descriptor
        os.close(descriptor)
    raise SkippedError(f"no static ldconfig on the host (looked at {', '.join(map(shown, paths))})")


def _open_trusted(path: str) -> int | None:
    """The file, if there is one; it must be root's alone to change."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            return None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIZE:
        raise HookError(f"{shown(path)} is not a program")
    if not process.may_be_trusted(status.st_uid) or status.st_mode & 0o022:
        raise HookError(f"{shown(path)} can be changed by others than root: not run")
    return descriptor


def is_static(descriptor: int) -> bool:
    """Whether the file is a 64-bit ELF program that asks for no interpreter."""
    header = os.pread(descriptor, 64, 0)
    if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
        return False
    (offset,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    if size != 56 or not 0 < count <= MAX_PROGRAM_HEADERS or offset > MAX_SIZE:
        return False
    table = os.pread(descriptor, size * count, offset)
    if len(table) != size * count:
        return False
    kinds = {struct.unpack_from("<I", table, size * index)[0] for index in range(count)}
    return _PT_INTERP not in kinds
