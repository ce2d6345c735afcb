# SPDX-License-Identifier: Apache-2.0
"""Users and groups of the examined host, from its files: no name service is asked.

The record of a host has the facts about one user only, and no file with all users.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cdi_gen.doctor.host import Host

MAX_BYTES = 4 << 20


class User(NamedTuple):
    """The user who runs doctor."""

    name: str
    """The number, if /etc/passwd lacks it."""
    uid: int
    groups: dict[int, str]
    """The groups in /etc/group that the user is a member of, by number."""


def current(host: Host) -> User:
    """Return the user who runs doctor."""
    name, uid, groups = host.fact("user names", lambda: _current(host))
    return User(name, uid, dict(groups))


def _current(host: Host) -> list[Any]:
    name, gid = str(host.uid), ""
    for fields in _rows(host, "/etc/passwd"):
        if len(fields) > 3 and fields[2] == str(host.uid):
            name, gid = fields[0], fields[3]
            break
    groups = [
        [int(fields[2]), fields[0]]
        for fields in _rows(host, "/etc/group")
        if len(fields) > 3
        and fields[2].isdecimal()
        and (fields[2] == gid or name in fields[3].split(","))
    ]
    return [name, host.uid, groups]


def group_name(host: Host, number: int) -> str:
    """Return the name of a group; its number if it has none."""

    def find() -> str:
        rows = _rows(host, "/etc/group")
        names = (fields[0] for fields in rows if len(fields) > 2 and fields[2] == str(number))
        return next(names, str(number))

    name: str = host.fact("group name", find, str(number))
    return name


def has_range(host: Host, path: str) -> bool:
    """Whether /etc/subuid or /etc/subgid gives this user a range of ids."""

    def find() -> bool:
        name = _current(host)[0]
        return any(fields[0] in {name, str(host.uid)} for fields in _rows(host, path))

    found: bool = host.fact("id range", find, path)
    return found


def _rows(host: Host, path: str) -> list[list[str]]:
    try:
        text = host.root.read_text(path, MAX_BYTES)
    except OSError:
        return []
    return [line.split(":") for line in text.splitlines()]
