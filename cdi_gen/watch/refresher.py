# SPDX-License-Identifier: Apache-2.0
"""Runs a refresh: in a child process, or as a unit of systemd.

Never in this process: a refresh may load NVML, and a library of the driver stays loaded.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from cdi_base.child import NOT_STARTED

SECONDS = 300.0
"""The longest time of a refresh; a process that waits for a driver that hangs is left alone."""

STEP_SECONDS = 1.0
SHOW_SECONDS = 30.0
TIMED_OUT = 1


class Refresher(Protocol):
    """Runs a refresh."""

    def run(self, is_over: Callable[[], bool]) -> int | None:
        """Return the exit code of `cdi-gen refresh`; None if ``is_over`` returned true before."""


class ChildProcess:
    """Runs a command.

    Args:
        command: the words.
        seconds: the longest time; the process is killed after it.
    """

    def __init__(self, command: Sequence[str], seconds: float = SECONDS) -> None:
        self._command = command
        self._seconds = seconds

    def run(self, is_over: Callable[[], bool]) -> int | None:
        """Return the exit code of the command."""
        try:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        except OSError:
            return NOT_STARTED
        deadline = time.monotonic() + self._seconds
        while not is_over():
            if _has_ended(process):
                return process.returncode
            if time.monotonic() >= deadline:
                process.kill()
                _has_ended(process)
                return TIMED_OUT
        process.terminate()
        if not _has_ended(process):
            process.kill()
        return None


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process ends soon."""
    try:
        process.wait(timeout=STEP_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


class Unit:
    """Starts a unit of systemd, which has the rights that a refresh needs.

    Args:
        name: the name of the unit.
        systemctl: the program.
    """

    def __init__(self, name: str, systemctl: str = "systemctl") -> None:
        self._systemctl = systemctl
        self._name = name
        self._start = ChildProcess((systemctl, "start", name))

    def run(self, is_over: Callable[[], bool]) -> int | None:
        """Return the exit code of the unit's process.

        systemd merges a start that is requested while the unit runs into the one that is under way,
        which may have looked at the host before the change. The unit is then started once more.
        """
        requested = time.monotonic()
        code = self._start.run(is_over)
        if code is None:
            return None
        process = self._process()
        if code == 0 and process.started < requested and not is_over():
            code = self._start.run(is_over)
            process = self._process()
        return code and (process.status or code)

    def _process(self) -> _MainProcess:
        names = ("ExecMainStatus", "ExecMainStartTimestampMonotonic")
        options = [f"--property={name}" for name in names]
        words = [self._systemctl, "show", *options, self._name]
        try:
            shown = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=SHOW_SECONDS
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            shown = ""
        values = dict(line.partition("=")[::2] for line in shown.splitlines())
        status, microseconds = (values.get(name, "") for name in names)
        return _MainProcess(
            status=int(status) if status.isdecimal() else 0,
            started=int(microseconds) / 1e6 if microseconds.isdecimal() else float("inf"),
        )


class _MainProcess(NamedTuple):
    """The last process of a unit."""

    status: int
    """Its exit code, or the number of the signal that ended it."""
    started: float
    """When it was started, on the clock of `time.monotonic`."""
