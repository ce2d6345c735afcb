# SPDX-License-Identifier: Apache-2.0
"""Two ways to find a path below a root without ever leaving it; both must pass the same tests.

A resolver takes the root's descriptor, a path in the container and `stay`; it gives an `O_PATH`
descriptor. Symbolic links are followed as the container would: an absolute one starts at the root,
`..` ends there. `stay` refuses (EXDEV) whatever lies in another mount than the root itself.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import syscalls
from cdi_base.files import MAX_LINKS, read_beginning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Resolver = Callable[[int, str, bool], int]

MAX_COMPONENTS = 256
MAX_PATH = 4096
MAX_TRIES = 32


def choose(root: int) -> Resolver:
    """The kernel's resolver where it has one: Linux 5.6, and no filter that denies it."""
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
            # EAGAIN: a rename or a mount anywhere on the machine made a `..` uncertain.
            if error.errno not in {errno.EAGAIN, errno.EINTR}:
                raise
    # Anybody may rename without a pause, in a container of their own; a walk does not mind.
    return by_walking(root, path, stay)


def by_walking(root: int, path: str, stay: bool) -> int:
    """Resolve one component at a time, following no link but by hand (Linux 2.6.39)."""
    if len(os.fsencode(path)) >= MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    ahead = _components(path)[::-1]
    behind = [_open_in(root, ".")]
    links = components = 0
    home = mount_id(root) if stay else 0
    try:
        while ahead:
            name = ahead.pop()
            components += 1
            if components > MAX_COMPONENTS:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            if name in {".", ".."}:
                if not stat.S_ISDIR(os.fstat(behind[-1]).st_mode):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                # Never openat(".."): a folder that is moved away meanwhile has another parent.
                if name == ".." and len(behind) > 1:
                    os.close(behind.pop())
                continue
            found = _open_in(behind[-1], name)
            behind.append(found)
            if stay and mount_id(found) != home:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            if stat.S_ISLNK(os.fstat(found).st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                text = os.readlink("", dir_fd=found)
                ahead.extend(_components(text)[::-1])
                os.close(behind.pop())
                while text.startswith("/") and len(behind) > 1:
                    os.close(behind.pop())
        return behind.pop()
    finally:
        for descriptor in behind:
            os.close(descriptor)


def _components(path: str) -> list[str]:
    """The names of a path; a slash at its end asks for a directory, as `.` does."""
    names = [name for name in path.split("/") if name]
    return [*names, "."] if path.endswith("/") else names


def _open_in(directory: int, name: str) -> int:
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def mount_id(descriptor: int) -> int:
    """Which mount a descriptor lies in; a bind mount of the same file system differs in it."""
    lines = read_beginning(f"/proc/self/fdinfo/{descriptor}", 4096).split(b"\n")
    return next(int(line[7:]) for line in lines if line.startswith(b"mnt_id:"))
