# SPDX-License-Identifier: Apache-2.0
"""Tells whether the host gets the mounts that this process makes.

A process may share a directory with the host and have its mounts for itself: a unit of systemd with
a sandbox, ``unshare -m``, a container with the host's /run. The link to a tree that such a process
made would lead all containers of the host to an empty directory.
"""

from __future__ import annotations

import os

from cdi_base import files
from cdi_gen.paths import parent

FIRST_PROCESS = 1
"""The process whose mounts are those of the host."""

_MAX_MOUNTINFO = 16 << 20


def reaches_host(directory: str) -> bool:
    """Whether the host gets what is mounted below a directory, or has another directory there.

    The directory need not exist yet. True as well if this process may not see the mounts of the
    first process.
    """
    while not os.path.isdir(directory):
        directory = parent(directory)
    first = f"/proc/{FIRST_PROCESS}"
    try:
        if os.readlink(f"{first}/ns/mnt") == os.readlink("/proc/thread-self/ns/mnt"):
            return True
        if not files.same_file(os.stat(f"{first}/root{directory}"), os.stat(directory)):
            return True
        receiving = {
            group
            for fields in _optional_fields(f"{first}/mountinfo").values()
            for group in _groups(fields, "shared:", "master:")
        }
    except OSError:
        return True
    own = _optional_fields("/proc/thread-self/mountinfo").get(_mount_id(directory), [])
    return not receiving.isdisjoint(_groups(own, "shared:"))


def _optional_fields(path: str) -> dict[str, list[str]]:
    """Return the optional fields of each mount, by its id; see proc_pid_mountinfo(5)."""
    lines = files.read_beginning(path, _MAX_MOUNTINFO).decode("utf-8", "replace").split("\n")
    mounts = [line.partition(" - ")[0].split(" ") for line in lines if line]
    return {mount[0]: mount[6:] for mount in mounts}


def _groups(fields: list[str], *kinds: str) -> set[str]:
    """Return the numbers of the groups of these kinds that mounts are propagated in."""
    return {field.partition(":")[2] for field in fields if field.startswith(kinds)}


def _mount_id(directory: str) -> str:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        information = files.read_beginning(f"/proc/thread-self/fdinfo/{descriptor}", 4096)
    finally:
        os.close(descriptor)
    lines = dict(line.split(":", 1) for line in information.decode("ascii").splitlines() if line)
    return lines.get("mnt_id", "").strip()
