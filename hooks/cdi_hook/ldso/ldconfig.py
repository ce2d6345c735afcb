# SPDX-License-Identifier: Apache-2.0
"""The host's ldconfig: only a static one, which loads nothing of the image it is shown."""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import elf, process
from cdi_base.errors import HookError, SkippedError, shown
from cdi_hook.arguments import checked_path
from cdi_hook.ldso import sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cdi_base.rootfs.rootfs import RootFs

    Maker = Callable[[RootFs, list[str], float], bytes]
    """Makes the cache of folders in a container's root, until a deadline."""

MAX_SIZE = 16 << 20


def maker(argument: str) -> Maker:
    """What makes a cache by running this ldconfig of the host in the sandbox.

    The path may begin with `@`, as the peer's configuration has it. The same with `.real` comes
    first: on Ubuntu /sbin/ldconfig is a shell script around it.

    Raises:
        UsageError: the argument is not an absolute path.
    """
    path = checked_path(argument.removeprefix("@"))

    def make(rootfs: RootFs, folders: list[str], until: float) -> bytes:
        program = open_static((f"{path}.real", path))
        configuration = os.fsencode("".join(f"{folder}\n" for folder in folders))
        return sandbox.build_cache(program, rootfs.descriptor, configuration, until)

    return make


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
        if elf.is_static(descriptor):
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
