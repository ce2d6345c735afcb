# SPDX-License-Identifier: Apache-2.0
"""Decides whether an untrusted user could change a file, or the file that a path leads to.

cdi-gen uses files as root, so only trusted users may be able to change them. The rule is: the owner
is a trusted user, and neither the group nor others have write permission. The group root is no
exception.

* `file_fault` checks one file or directory, by the attributes of an open descriptor.
* `fault` checks a whole path: each directory and each symbolic link that the path goes through.
  A directory on the way may be writable by others if it has the sticky bit, which keeps others
  from replacing what belongs to root.

`hooks/README.md` has a table of the checks, and their reasons.

A path that leads to nothing is an error (`FileNotFoundError`), unless the caller creates the file:
then no directory on the way may be writable by others where a component is missing, sticky bit or
not, because others could create that component.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ROOT = frozenset({0})

OVERFLOW_USER = 65534
"""The owner that a user namespace shows for files of users that it does not map."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def in_first_user_namespace() -> bool:
    """Whether this process is in the initial user namespace, whose user ids are the machine's."""
    return files.read_beginning("/proc/self/uid_map", 4096).split() == [b"0", b"0", b"4294967295"]


def machine_root() -> frozenset[int]:
    """Return the user ids that the root user of the machine can have in this process.

    A user namespace does not map the machine's root, and shows the overflow user instead.
    """
    return ROOT if in_first_user_namespace() else frozenset({0, OVERFLOW_USER})


def machine_root_or_caller() -> frozenset[int]:
    """Return the user ids of the machine's root and of the user that this process runs as."""
    return machine_root() | {os.geteuid()}


def is_trusted_owner(user: int) -> bool:
    """Whether the user is the machine's root, or the user that this process runs as."""
    if user in {0, os.geteuid()}:
        return True
    return user == OVERFLOW_USER and not in_first_user_namespace()


def file_fault(status: os.stat_result, owners: Collection[int] | None = None) -> str | None:
    """Return why an untrusted user could change a file with these attributes; else None.

    Args:
        status: the attributes, of an open descriptor.
        owners: the trusted users; None: the machine's root and the caller.
    """
    return attributes_fault(status.st_uid, status.st_mode, owners)


def attributes_fault(owner: int, mode: int, owners: Collection[int] | None = None) -> str | None:
    """Return the same as `file_fault` for a file of this owner and mode."""
    if not (is_trusted_owner(owner) if owners is None else owner in owners):
        return f"belongs to user {owner}"
    if mode & _OTHERS_WRITE:
        return f"can be written to by others (mode {stat.S_IMODE(mode):04o})"
    return None


def fault(
    path: str,
    *,
    owners: Collection[int] = ROOT,
    seen_from: str = "/",
    may_be_missing: bool = False,
    end_may_be_untrusted: bool = False,
) -> str | None:
    """Return why an untrusted user could change what `path` leads to; None if no such user could.

    Args:
        path: an absolute path.
        owners: the trusted users, who may own each directory, link and file of the path.
        seen_from: the directory that is seen as `/`; links resolve inside it.
        may_be_missing: whether the path may end before its last component, which the caller will
            create.
        end_may_be_untrusted: whether the file at the end may have any owner and mode; untrusted
            users must still be unable to replace the file by another.

    Raises:
        FileNotFoundError: the path leads to nothing, and may not be missing.
        OSError: the path cannot be followed.
    """
    weak_directory = None
    for location, status, is_end in _walk(path, seen_from):
        if status is None and not may_be_missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
        if status is None or (is_end and end_may_be_untrusted):
            return weak_directory
        weak_directory = None
        if status.st_uid in owners and stat.S_ISLNK(status.st_mode):
            continue  # the mode of a link means nothing
        reason = file_fault(status, owners)
        if reason is None:
            continue
        weak_directory = f"{location} {reason}"
        if is_end or status.st_uid not in owners or not status.st_mode & stat.S_ISVTX:
            return weak_directory
    return None


def resolved(path: str, *, seen_from: str = "/") -> str:
    """Return what an absolute path leads to, without links; links resolve inside `seen_from`.

    Raises:
        FileNotFoundError: the path leads to nothing.
        OSError: the path cannot be followed.
    """
    location = "/"
    for location, status, _ in _walk(path, seen_from):
        if status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
    return location


def open_directory(path: str) -> int:
    """Return a descriptor of a directory that only root, or the caller, can change.

    Raises:
        OSError: the directory cannot be opened; PermissionError: others can change it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return _checked(descriptor, path)


def open_file(path: str, *, directory: int | None = None, follow: bool = False) -> int:
    """Return a descriptor of a regular file that only root, or the caller, can change.

    Args:
        path: of the file.
        directory: a descriptor of the directory that a relative path begins in.
        follow: whether the file may be a symbolic link.

    Raises:
        OSError: the file cannot be opened; PermissionError: others can change it.
    """
    return _checked(files.open_regular(path, directory=directory, follow=follow), path)


def read(path: str, limit: int, *, directory: int | None = None, follow: bool = False) -> bytes:
    """Return the content of a regular file that only root, or the caller, can change.

    Raises:
        OSError: as `open_file`; EFBIG if the file is larger than `limit` bytes.
    """
    descriptor = open_file(path, directory=directory, follow=follow)
    try:
        return files.content(descriptor, limit)
    finally:
        os.close(descriptor)


def _checked(descriptor: int, path: str) -> int:
    reason = file_fault(os.fstat(descriptor))
    if reason is None:
        return descriptor
    os.close(descriptor)
    raise PermissionError(errno.EPERM, reason, path)


def _walk(path: str, seen_from: str) -> Iterator[tuple[str, os.stat_result | None, bool]]:
    """Yield each location on a path, its attributes, and whether it is the end.

    The attributes are None where nothing exists; that location is the last. A link is not an end.
    """
    prefix = seen_from.rstrip("/")
    location, pending, links = "", _components(path), 0
    while True:
        try:
            status = os.lstat(f"{prefix}{location}" or "/")
        except FileNotFoundError:
            yield location, None, True
            return
        is_link = stat.S_ISLNK(status.st_mode)
        is_end = not pending and not is_link
        if is_end and not prefix and not files.same_file(status, os.stat(path)):
            # /proc/PID/root and the like have a text that leads elsewhere than the link itself.
            raise OSError(errno.ELOOP, "leads elsewhere than its links say", path)
        yield location or "/", status, is_end
        if is_link:
            links += 1
            if links > files.MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), location)
            target = os.readlink(f"{prefix}{location}")
            pending = _components(target) + pending
            location = "" if target.startswith("/") else location.rpartition("/")[0]
        elif not pending:
            return
        else:
            component = pending.pop(0)
            above = location.rpartition("/")[0]
            location = above if component == ".." else f"{location}/{component}"


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
