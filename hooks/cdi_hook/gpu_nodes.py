# SPDX-License-Identifier: Apache-2.0
"""Finds the GPUs of a container by its device nodes."""

from __future__ import annotations

import os
import stat

from cdi_base.nvidia import gpu_minor
from cdi_base.rootfs.rootfs import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs


def gpu_minors(rootfs: RootFs) -> list[int]:
    """Return the minors of the container's nodes /dev/nvidiaN, in order.

    Links are not followed: the minors are written to files of the container, which must not reveal
    the content of a volume.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        devices = os.open("dev", flags, dir_fd=rootfs.descriptor)
    except OSError as error:
        if error.errno in NOWHERE:
            return []
        raise
    minors = set()
    try:
        for name in rootfs.names("/dev"):
            if gpu_minor(name) is not None:
                try:
                    status = os.stat(name, dir_fd=devices, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISCHR(status.st_mode):
                    minors.add(os.minor(status.st_rdev))
    finally:
        os.close(devices)
    return sorted(minors)
