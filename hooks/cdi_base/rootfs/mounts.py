# SPDX-License-Identifier: Apache-2.0
"""Finds the mounts of a container that a hook may write to: the root, and the engine's /dev."""

from __future__ import annotations

import os

from cdi_base import syscalls
from cdi_base.files import read_beginning
from cdi_base.rootfs import resolve

MAX_MOUNTINFO = 4 << 20


def writable(root: int) -> int:
    """Return the root, or a writable clone of its mount, which no other process sees.

    runc makes the root of a read-only container read-only after the hooks, crun 1.8 before them.
    With the clone the container gets the same files from both.
    """
    if not os.fstatvfs(root).f_flag & os.ST_RDONLY:
        return root
    try:
        clone = syscalls.clone_tree(root, recursive=False)
        syscalls.make_writable(clone)
    except OSError:
        # Linux before 5.12, or another namespace made the mount read-only: writes fail with EROFS.
        return root
    return clone


def read_only(root: int) -> int:
    """Return the root, or a read-only clone of its mount, through which nothing can be changed."""
    if os.fstatvfs(root).f_flag & os.ST_RDONLY:
        return root
    clone = syscalls.clone_tree(root, recursive=False)
    attributes, propagation = syscalls.ATTR_RDONLY, syscalls.MS_PRIVATE
    syscalls.set_attributes(clone, attributes, propagation, recursive=False)
    return clone


def devices(root: int) -> int | None:
    """Return an `O_PATH` descriptor of the container's /dev, if the engine mounted a tmpfs there.

    Such a tmpfs is mounted nowhere else; any other /dev is the host's or a volume.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open("dev", flags, dir_fd=root)
    except OSError:
        return None
    if MountTable().is_of_the_container_alone(descriptor):
        return descriptor
    os.close(descriptor)
    return None


_ESCAPES = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


def names() -> set[str]:
    """Return the last component of each mount point in this process's namespace."""
    last: set[str] = set()
    for line in read_beginning("/proc/self/mountinfo", MAX_MOUNTINFO).split(b"\n"):
        fields = line.split(b" ", 5)
        if len(fields) == 6:
            name = fields[4].rpartition(b"/")[2]
            if b"\\" in name:
                for escape, letter in _ESCAPES:
                    name = name.replace(escape, letter)
            last.add(os.fsdecode(name))
    return last


class MountTable:
    """The current mounts of this process's namespace (proc_pid_mountinfo(5))."""

    def __init__(self) -> None:
        lines = read_beginning("/proc/self/mountinfo", MAX_MOUNTINFO).split(b"\n")
        self._lines = [line.partition(b" - ")[0].split(b" ") for line in lines]
        self._shared = {
            int(fields[0])
            for fields in self._lines
            if any(field.startswith(b"shared:") for field in fields[6:])
        }

    def is_of_the_container_alone(self, descriptor: int) -> bool:
        """Whether a file is in a tmpfs that is mounted once, and so is not a volume."""
        if syscalls.file_system(descriptor) != syscalls.TMPFS_MAGIC:
            return False
        device = os.fstat(descriptor).st_dev
        number = b"%d:%d" % (os.major(device), os.minor(device))
        return sum(fields[2:3] == [number] for fields in self._lines) == 1

    def tells_others(self, descriptor: int) -> bool:
        """Whether a mount on this file propagates to other namespaces: the mount is shared."""
        return bool(self._shared) and resolve.mount_id(descriptor) in self._shared
