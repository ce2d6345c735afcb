# SPDX-License-Identifier: Apache-2.0
"""Reads what the processes run that use GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from cdi_gen.containers import owners, procfs
from cdi_gen.containers.model import Process
from cdi_gen.containers.records import Tree
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.top.sample import Command, devices

MAX_BYTES = 4096
"""Of a command line: a screen shows less."""
MAX_PROCESSES = 4096


class Commands:
    """Keeps the commands of the processes of the last pass.

    Args:
        host_root: the path of the host's ``/``.
    """

    def __init__(self, host_root: str = "/") -> None:
        self._host_root = host_root
        self._proc = f"{host_root.rstrip('/')}/proc"
        self._commands: dict[tuple[int, int], Command] = {}
        """By number and start time."""
        self._users: dict[int, str] = {}

    def of(self, snapshot: Snapshot) -> Mapping[int, Command]:
        """Return the commands of the processes that use a device, by their numbers."""
        in_containers = {
            process.pid: process
            for holder in snapshot.holders
            for process in holder.container.processes
        }
        kept: dict[tuple[int, int], Command] = {}
        commands: dict[int, Command] = {}
        for pid in _users_of(snapshot):
            process = in_containers.get(pid) or procfs.process_of(pid, self._proc)
            if process is not None:
                key = (pid, process.start_time)
                commands[pid] = command = self._commands.get(key) or self._command(process)
                if command.is_complete:
                    kept[key] = command
        self._commands = kept
        return commands

    def _command(self, process: Process) -> Command:
        words: list[str] = []
        with suppress(OSError), procfs.ProcessDirectory(process.pid, self._proc) as directory:
            if procfs.is_same(directory, process):
                words = directory.text("cmdline", MAX_BYTES).rstrip("\0").split("\0")
        text = " ".join(words).strip()
        user = self._user(process.user)
        if not text:  # not readable, or a new program whose arguments the kernel does not have yet
            return Command(user=user, text=f"[{process.name}]", is_complete=False)
        return Command(user=user, text=text)

    def _user(self, number: int) -> str:
        if number not in self._users:
            root = os.open(self._host_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._users[number] = owners.user_name(number, Tree(root))
            finally:
                os.close(root)
        return self._users[number]


def _users_of(snapshot: Snapshot) -> Iterable[int]:
    """Return the numbers of the processes that use a device, each once."""
    pids = {
        process.pid: None
        for device in devices(snapshot.reading).values()
        for process in device.processes or ()
    }
    return [*pids][:MAX_PROCESSES]
