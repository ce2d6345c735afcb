# SPDX-License-Identifier: Apache-2.0
"""Resolves a path below a root without leaving it, in two ways that pass the same tests.

A resolver takes the root's descriptor, a path in the container and `stay`; it returns an `O_PATH`
descriptor. Symbolic links are followed as in the container: an absolute link starts at the root,
and `..` does not lead above it. With `stay` a path that enters another mount is an error (EXDEV).
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import syscalls
from cdi_base.files import MAX_LINKS, read_beginning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Resolver = Callable[[int, str, bool], int]

MAX_COMPONENTS = 256
MAX_PATH = 4096
MAX_TRIES = 32


def choose(root: int) -> Resolver:
    """Return the kernel's resolver, if it has one (Linux 5.6) and no seccomp filter denies it."""
    try:
        os.close(by_kernel(root, ".", False))
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EPERM, errno.EINVAL}:
            return by_walking
        raise
    return by_kernel


def by_kernel(root: int, path: str, stay: bool) -> int:
    """Resolve with openat2(2)."""
    rules = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    if stay:
        rules |= syscalls.RESOLVE_NO_XDEV
    for _ in range(MAX_TRIES):
        try:
            return syscalls.openat2(root, path or ".", os.O_PATH, rules)
        except OSError as error:
            # EAGAIN: a rename or a mount elsewhere on the machine interfered with a `..`.
            if error.errno not in {errno.EAGAIN, errno.EINTR}:
                raise
    # A process in any container can rename files continuously; walking is not affected.
    return by_walking(root, path, stay)


def by_walking(root: int, path: str, stay: bool, mounts: Collection[int] | None = None) -> int:
    """Resolve one component at a time, and follow links in this function (Linux 2.6.39).

    Of other mounts than those with the ids `mounts`, nothing is touched; entering one is an error
    (EXDEV).
    """
    if len(os.fsencode(path)) >= MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    pending = _components(path)[::-1]
    opened = [_open_in(root, ".")]
    links = components = 0
    mounts = {mount_id(root)} if stay else mounts
    try:
        while pending:
            name = pending.pop()
            components += 1
            if components > MAX_COMPONENTS:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            if name in {".", ".."}:
                if not stat.S_ISDIR(os.fstat(opened[-1]).st_mode):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                # Never openat(".."): a directory that was moved meanwhile has another parent.
                if name == ".." and len(opened) > 1:
                    os.close(opened.pop())
                continue
            descriptor = _open_in(opened[-1], name)
            opened.append(descriptor)
            if mounts is not None and mount_id(descriptor) not in mounts:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                text = os.readlink("", dir_fd=descriptor)
                pending.extend(_components(text)[::-1])
                os.close(opened.pop())
                while text.startswith("/") and len(opened) > 1:
                    os.close(opened.pop())
        return opened.pop()
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _components(path: str) -> list[str]:
    """Return the components of a path; a final slash requires a directory, as `.` does."""
    names = [name for name in path.split("/") if name]
    return [*names, "."] if path.endswith("/") else names


def _open_in(directory: int, name: str) -> int:
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def mount_id(descriptor: int) -> int:
    """Return the id of a descriptor's mount; bind mounts of one file system have different ids."""
    lines = read_beginning(f"/proc/self/fdinfo/{descriptor}", 4096).split(b"\n")
    return next(int(line[7:]) for line in lines if line.startswith(b"mnt_id:"))
