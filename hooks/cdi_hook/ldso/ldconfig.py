# SPDX-License-Identifier: Apache-2.0
"""The host's ldconfig: only a static one, which loads nothing of the image it is shown."""

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
    raise SkippedError(
        f"no static ldconfig on the host (looked at {', '.join(map(shown, paths))})",
        code="CDG-K102",
    )


def _open_trusted(path: str) -> int | None:
    """Return a descriptor of the program; None if there is none.

    Raises:
        HookError: others than root, or the hook's user, can change what the path leads to.
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
