# SPDX-License-Identifier: Apache-2.0
"""Finds out which unit of systemd and which user a container belongs to.

The kernel knows the owner of a user namespace: of a rootless container it is the user. Units are
names of control groups.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Mapping

from cdi_base.control_groups import SYSTEMD, VERSION_2
from cdi_gen.containers import group_names
from cdi_gen.containers.procfs import ProcessDirectory
from cdi_gen.containers.records import RecordError, Tree

ACCOUNTS = "/etc/passwd"
MAX_ACCOUNTS = 1 << 20

_NS_GET_OWNER_UID = 0xB704
_INIT = "init.scope"
_MANAGER = re.compile(r"user@(\d{1,10})\.service", re.ASCII)


def unit(groups: Mapping[str, str]) -> str:
    """Return the unit that a container was started in, of the system's manager or of a user's.

    The scope that an engine makes for a container is no answer, because it has the container's id
    for a name. The groups below it are the container's own, of a systemd in it for example.

    >>> unit({"": "/system.slice/web.service/libpod-payload-" + 64 * "a"})
    'web.service'
    """
    names = _names(groups)
    of_engine = (number for number, name in enumerate(names) if group_names.is_of_engine(name))
    for name in reversed(names[: next(of_engine, len(names))]):
        if _MANAGER.fullmatch(name):
            return ""
        if name.endswith((".service", ".scope")) and name != _INIT:
            return name
    return ""


def user_of_groups(groups: Mapping[str, str]) -> int | None:
    """Return the user whose manager (``user@1000.service``) a process runs under.

    In the group of an engine the names are the container's own, as for `unit`.
    """
    for name in _names(groups):
        if group_names.is_of_engine(name):
            return None
        match = _MANAGER.fullmatch(name)
        if match is not None:
            return int(match[1])
    return None


def user_of_namespace(directory: ProcessDirectory) -> int | None:
    """Return the owner of the user namespace of a process; None if the kernel does not tell.

    Raises:
        OSError: the process has ended, or this process may not look at it.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    descriptor = os.open("ns/user", flags, dir_fd=directory.descriptor)
    try:
        answer = fcntl.ioctl(descriptor, _NS_GET_OWNER_UID, bytes(4))
    except OSError:  # a kernel before 4.11
        return None
    finally:
        os.close(descriptor)
    number: int = struct.unpack("=I", answer)[0]
    return number


def user_name(number: int, tree: Tree) -> str:
    """Return the name of a user in the host's own accounts; the number if it has none there.

    No name service is asked, because one on the network may not answer.
    """
    try:
        content = tree.read(ACCOUNTS, MAX_ACCOUNTS) or b""
    except RecordError:
        content = b""
    for line in os.fsdecode(content).splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(number):
            return fields[0]
    return str(number)


def _names(groups: Mapping[str, str]) -> list[str]:
    path = groups.get(VERSION_2, "")
    if path in {"", "/"}:
        path = groups.get(SYSTEMD, "")
    return [name for name in path.split("/") if name]
