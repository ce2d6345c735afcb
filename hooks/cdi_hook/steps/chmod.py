# SPDX-License-Identifier: Apache-2.0
"""Step chmod: sets the mode of directories that engines create in /dev, for users other than root.

Old versions of crun created the directories of device nodes (/dev/dri, /dev/nvidia-caps) so that
only root could enter them. Specs have this step only if the administrator requests it.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import process
from cdi_base.errors import UsageError, shown
from cdi_base.rootfs.rootfs import NOWHERE
from cdi_hook.arguments import checked_path, last

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options

MAX_MODE = 0o777
"""Excludes set-user-ID, set-group-ID and the sticky bit."""

NOT_CHANGED = {
    errno.EXDEV: "the path is in a mount of its own",
    errno.EINVAL: "the path is not a directory",
    errno.EPERM: "the directory belongs to another user",
    errno.EACCES: "the directory belongs to another user",
}


class Plan:
    """The directories and their new mode; false without a directory."""

    __slots__ = ("mode", "paths")

    def __init__(self, paths: list[str], mode: int) -> None:
        self.paths = paths
        self.mode = mode

    def __bool__(self) -> bool:
        return bool(self.paths)


def prepare(options: Options) -> Plan:
    """Return the plan of the options.

    Raises:
        UsageError: a path without a mode, or a mode that is not octal and at most 777.
    """
    paths = [checked_path(path) for path in options["--path"]]
    text = last(options["--mode"])
    if text is None:
        if paths:
            raise UsageError("--path needs a --mode")
        return Plan([], 0)
    if not text or set(text) - set("01234567") or int(text, 8) > MAX_MODE:
        raise UsageError(f"--mode {shown(text)} is not octal, at most 777")
    return Plan(list(dict.fromkeys(paths)), int(text, 8))


def run(rootfs: RootFs, plan: Plan, _until: float) -> None:
    """Set the mode of each directory.

    A path that leads nowhere is ignored. A directory in a volume or of another user is not changed.
    """
    for path in plan.paths:
        try:
            root, path_below = rootfs.writable_root(path)
            descriptor = root.find_within(root.descriptor, path_below)
            try:
                _change(root, descriptor, path, plan.mode)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in NOWHERE:
                continue
            if error.errno not in NOT_CHANGED:
                raise OSError(error.errno, error.strerror, path) from None
            process.say(
                f"chmod: {shown(path)}: not changed: {NOT_CHANGED[error.errno]}", "CDG-K105"
            )


def _change(rootfs: RootFs, descriptor: int, path: str, mode: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EINVAL, "not a directory")
    if stat.S_IMODE(status.st_mode) == mode:
        return
    if rootfs.is_kept_read_only or os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    rootfs.report_change(f"chmod {mode:o} {path}")
    if not rootfs.is_dry_run:
        # fchmod(2) rejects an `O_PATH` descriptor; its entry in /proc leads to the same directory.
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
