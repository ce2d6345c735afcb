# SPDX-License-Identifier: Apache-2.0
"""Finds the host's ldconfig, which must be static so that it loads nothing of the image."""

from __future__ import annotations

import errno
import os

from cdi_base import elf, files, trust
from cdi_base.errors import HookError, SkippedError, shown
from cdi_hook.arguments import checked_path
from cdi_hook.ldso import sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cdi_base.rootfs.rootfs import RootFs

    Maker = Callable[[RootFs, list[str], float], bytes]
    """Returns the cache of directories in a container's root, before a deadline."""

MAX_SIZE = 16 << 20


def maker(argument: str) -> Maker:
    """Return a function that runs this ldconfig of the host in the sandbox to build a cache.

    The path may begin with `@`, as in NVIDIA's config.toml. The same path with `.real` is tried
    first: on Ubuntu /sbin/ldconfig is a shell script that runs ldconfig.real.

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
    """Return a descriptor of the first static ldconfig.

    Raises:
        SkippedError: no file is a static ldconfig.
        HookError: a user other than root, or the hook's user, could change one of the files.
    """
    for path in paths:
        descriptor = _open_trusted(path)
        if descriptor is None:
            continue
        if elf.is_static(descriptor):
            return descriptor
        os.close(descriptor)
    raise SkippedError(
        f"no static ldconfig on the host (looked at {', '.join(map(shown, paths))})",
        code="CDG-K102",
    )


def _open_trusted(path: str) -> int | None:
    """Return a descriptor of the program; None if it does not exist.

    Raises:
        HookError: a user other than root, or the hook's user, could change what the path leads to.
    """
    try:
        reason = trust.fault(path, owners=trust.machine_root_or_caller())
        if reason is not None:
            raise HookError(
                f"{shown(path)} can be changed by others than root: {reason}; not run",
                code="CDG-K101",
            )
        descriptor = files.open_regular(path, follow=True)
    except files.NotRegularError:
        raise HookError(f"{shown(path)} is not a program", code="CDG-K101") from None
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            return None
        raise
    if os.fstat(descriptor).st_size > MAX_SIZE:
        raise HookError(f"{shown(path)} is not a program", code="CDG-K101")
    return descriptor
