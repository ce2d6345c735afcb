# SPDX-License-Identifier: Apache-2.0
"""Which of a container's mounts a hook may write to: its root's, and the /dev its engine made."""

from __future__ import annotations

import os

from cdi_hook import syscalls

MAX_MOUNTINFO = 4 << 20


def writable(root: int) -> int:
    """The root, or a clone of its mount that can be written to, which nobody else sees.

    For a read-only container runc makes the root read-only after the hooks, crun (1.8) before
    them; the container gets the same either way.
    """
    if not os.fstatvfs(root).f_flag & os.ST_RDONLY:
        return root
    try:
        clone = syscalls.clone_tree(root, recursive=False)
        syscalls.make_writable(clone)
    except OSError:
        # Linux before 5.12, or another namespace made it so: each write will say EROFS.
        return root
    return clone


def devices(root: int) -> int | None:
    """The container's /dev, as `O_PATH`, if it is a tmpfs that the engine made for it.

    That is mounted nowhere else; any other is the host's or a volume.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open("dev", flags, dir_fd=root)
    except OSError:
        return None
    is_tmpfs = syscalls.file_system(descriptor) == syscalls.TMPFS_MAGIC
    if is_tmpfs and _times_mounted(os.fstat(descriptor).st_dev) == 1:
        return descriptor
    os.close(descriptor)
    return None


def _times_mounted(device: int) -> int:
    """How often a file system is mounted, in any of its parts, where this process can see it."""
    number = b"%d:%d" % (os.major(device), os.minor(device))
    content = bytearray()
    descriptor = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while len(content) < MAX_MOUNTINFO and (piece := os.read(descriptor, 1 << 16)):
            content += piece
    finally:
        os.close(descriptor)
    return sum(line.split(b" ", 3)[2:3] == [number] for line in content.split(b"\n"))
