# SPDX-License-Identifier: Apache-2.0
"""Users and groups of the examined host, from its files: no name service is asked."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.doctor.host import Host


class User(NamedTuple):
    """The user who runs doctor."""

    name: str
    uid: int
    groups: dict[int, str]
    """The groups in /etc/group that the user is a member of, by number."""


def current(host: Host) -> User:
    """Return the user who runs doctor; the number in place of a name that /etc/passwd lacks."""
    name, gid = str(host.uid), -1
    for fields in _rows(host, "/etc/passwd"):
        if len(fields) > 3 and fields[2] == str(host.uid):
            name, gid = fields[0], int(fields[3]) if fields[3].isdecimal() else -1
            break
    groups = {}
    for fields in _rows(host, "/etc/group"):
        if len(fields) > 3 and fields[2].isdecimal():
            number = int(fields[2])
            if number == gid or name in fields[3].split(","):
                groups[number] = fields[0]
    return User(name, host.uid, groups)


def group_name(host: Host, number: int) -> str:
    """Return the name of a group; its number if it has none."""
    for fields in _rows(host, "/etc/group"):
        if len(fields) > 2 and fields[2] == str(number):
            return fields[0]
    return str(number)


def _rows(host: Host, path: str) -> list[list[str]]:
    return [line.split(":") for line in (host.text(path, 1 << 20) or "").splitlines()]
