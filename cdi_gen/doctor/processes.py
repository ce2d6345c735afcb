# SPDX-License-Identifier: Apache-2.0
"""Finds running programs by their names in ``/proc``."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.host.roots import Root

COMMAND_BYTES = 1 << 14


class Process(NamedTuple):
    """A process. Any user can start a program under any name: this is no proof of anything."""

    pid: int
    name: str
    """The name of the program, from the first argument."""
    arguments: tuple[str, ...]
    user: int


def list_processes(root: Root) -> list[Process]:
    """Return the processes with a command line, by pid; kernel threads have none."""
    numbers = sorted(int(entry.name) for entry in root.entries("/proc") if entry.name.isdecimal())
    return [process for number in numbers if (process := _process(root, number))]


def _process(root: Root, pid: int) -> Process | None:
    try:
        command = root.read_bytes(f"/proc/{pid}/cmdline", COMMAND_BYTES)
        status = root.read_text(f"/proc/{pid}/status", 4096)
    except OSError:
        return None
    arguments = command.rstrip(b"\0").decode("utf-8", "replace").split("\0")
    if not arguments[0]:
        return None
    user = status.partition("\nUid:")[2].split()
    # A daemon may write a sentence in its command line: "nginx: master process".
    name = arguments[0].partition(" ")[0].rstrip(":").rpartition("/")[2]
    return Process(pid, name, tuple(arguments), int(user[0]) if user else -1)
