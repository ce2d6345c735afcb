# SPDX-License-Identifier: Apache-2.0
"""Parses /proc/PID/mountinfo; pure.

A container can choose mount points and, in a user namespace, mount file systems of its own, FUSE
for example, whose server may never answer. The kernel's table tells this without touching them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

DELETED = "//deleted"
"""What the kernel appends to the root of a mount whose file is deleted."""

_ESCAPE = re.compile(r"\\([0-7]{3})")

REMOTE = re.compile(
    r"fuse.*|nfs.*|cifs|smb.*|9p|ceph|afs|lustre|autofs|virtiofs|gfs2|ocfs2|glusterfs"
)
"""File systems whose files another program or machine serves, and that may not answer."""


OVERLAY = "overlay"


class Mount(NamedTuple):
    """A mount of a mount namespace."""

    id: str
    device: str
    """``major:minor`` of the file system."""
    root: str
    """The mounted directory or file in the file system, possibly with `DELETED`."""
    point: str
    """Where it is mounted."""
    kind: str
    """The type of the file system."""
    source: str
    options: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether touching a file may block."""
        return REMOTE.fullmatch(self.kind) is not None

    @property
    def is_deleted(self) -> bool:
        """Whether the mounted file or directory is deleted, and only the mount keeps it."""
        return self.root.endswith(DELETED)


def parse(text: str) -> list[Mount]:
    """Return the mounts in the order of the table; a later mount may hide an earlier one."""
    mounts = []
    for line in text.split("\n"):
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 2:
            continue
        mounts.append(
            Mount(
                id=fields[0],
                device=fields[2],
                root=_plain(fields[3]),
                point=_plain(fields[4]),
                kind=rest[0],
                source=_plain(rest[1]),
                options=fields[5],
            )
        )
    return mounts


def at(mounts: Sequence[Mount], point: str) -> Mount | None:
    """Return the mount at a mount point that is seen there: the last one."""
    return next((mount for mount in reversed(mounts) if mount.point == point), None)


def may_hang(mounts: Sequence[Mount]) -> bool:
    """Whether a container in a user namespace may have a root or a /dev that never answers.

    Its user can mount an overlay there, whose layers are FUSE; the table does not tell that.
    """
    return any(
        mount.kind == OVERLAY and (mount.point == "/" or f"{mount.point}/".startswith("/dev/"))
        for mount in mounts
    )


def root_identity(mounts: Sequence[Mount]) -> tuple[str, str] | None:
    """Return what differs between the roots of two containers: file system and directory."""
    mount = at(mounts, "/")
    return None if mount is None else (mount.device, mount.root)


def _plain(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
