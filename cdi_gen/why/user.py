# SPDX-License-Identifier: Apache-2.0
"""The users whose permissions count: root, and the user of a rootless engine."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from cdi_gen.engines.machine import USUAL_DIRECTORIES
from cdi_gen.errors import UsageError


class User(NamedTuple):
    """A user of the host."""

    uid: int
    gid: int = 0
    name: str = "root"
    home: str = "/root"
    groups: tuple[int, ...] = (0,)
    """All groups of the user, also the first one."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which an engine finds the files of this user."""
        return {"HOME": self.home, "PATH": ":".join(USUAL_DIRECTORIES)}

    @property
    def is_visible(self) -> bool:
        """Whether this process can check what the user may read: as root, or as the user."""
        return os.geteuid() in {0, self.uid}


ROOT = User(0)

_LONGEST_UID = 10
"""The digits of 2³² - 1."""


def named(text: str) -> User:
    """Return the user of a name or number.

    Raises:
        UsageError: the host has no such user.
    """
    try:
        entry = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except (KeyError, OverflowError, ValueError) as error:
        raise UsageError(
            f"--user: no user {text!r} on this host", code="CDG-U003", subject="--user"
        ) from error
    return _user(entry)


def calling(environment: Mapping[str, str]) -> User:
    """Return the user who calls: under sudo, the user who called sudo."""
    uid = os.geteuid()
    sudo_user = environment.get("SUDO_UID", "")
    if uid == 0 and sudo_user.isdecimal() and len(sudo_user) <= _LONGEST_UID:
        uid = int(sudo_user)
    try:
        return _user(pwd.getpwuid(uid))
    except (KeyError, OverflowError):
        groups = tuple(os.getgroups()) if uid == os.geteuid() else ()
        return User(uid, os.getegid(), str(uid), environment.get("HOME") or "/", groups)


def _user(entry: pwd.struct_passwd) -> User:
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return User(entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir, tuple(groups))


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Let this process access files with the permissions of a user, if it runs as root.

    No program may be started and no thread may run in the meantime.
    """
    if os.geteuid() != 0 or user.uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups(user.groups)
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
