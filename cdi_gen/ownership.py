# SPDX-License-Identifier: Apache-2.0
"""Who else could change what a path leads to.

What root runs or reads must not be anybody else's to change: not the file, not a directory on the
way to it, and not a symbolic link through which the way leads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator

MAX_LINKS = 40
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def fault(path: str, *, seen_from: str = "/", trusted: Collection[int] = (0,)) -> str | None:
    """Why somebody who is not trusted could change what ``path`` leads to; None where nobody can.

    A directory may be writable by others if it has the sticky bit, for they cannot replace what
    is not theirs; the file or directory at the end may not.

    Args:
        path: an absolute path; it may end where nothing is yet.
        seen_from: the directory that is seen as ``/``; links resolve inside it.
        trusted: the user ids that may own everything on the way.

    Raises:
        OSError: the way cannot be walked.
    """
    for place, status, left in _way(path, seen_from):
        if status is None:
            break
        if status.st_uid not in trusted:
            return f"{place} belongs to uid {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):
            continue
        if status.st_mode & _OTHERS_WRITE and not (left and status.st_mode & stat.S_ISVTX):
            mode = stat.S_IMODE(status.st_mode)
            return f"{place} can be written to by others (mode {mode:04o})"
    return None


def followed(path: str, *, seen_from: str = "/") -> str:
    """What ``path`` leads to, with no link on the way; links resolve inside ``seen_from``.

    Raises:
        OSError: the way can not be walked.
    """
    place = "/"
    for each, _, _ in _way(path, seen_from):
        place = each
    return place


def _way(path: str, seen_from: str) -> Iterator[tuple[str, os.stat_result | None, bool]]:
    """Each place on the way, its attributes, and whether more comes after it.

    The last is the end; without attributes where nothing is there.
    """
    prefix = seen_from.rstrip("/")
    place, left, links = "/", _parts(path), 0
    while True:
        status = os.lstat(prefix + place)
        yield place, status, bool(left)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place)
            target = os.readlink(prefix + place)
            left = _parts(target) + left
            place = "/" if target.startswith("/") else os.path.dirname(place)
        if not left:
            return
        place = os.path.normpath(os.path.join(place, left.pop(0)))
        if not os.path.lexists(prefix + place):
            yield os.path.normpath(os.path.join(place, *left)), None, False
            return


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
