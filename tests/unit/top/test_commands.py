# SPDX-License-Identifier: Apache-2.0
"""The commands of processes that use GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.telemetry.model import ProcessReading
from cdi_gen.top.commands import MAX_BYTES, Commands
from tests.unit.metrics import snapshots


def of(*pids: int) -> Snapshot:
    processes = tuple(ProcessReading(pid=pid) for pid in pids)
    return Snapshot(reading=snapshots.reading(snapshots.gpu(0, processes=processes)))


def test_a_process_has_its_command_line_and_its_user() -> None:
    words = (sys.executable, "-c", "import sys; sys.stdin.read()", "x" * 2 * MAX_BYTES)
    with subprocess.Popen(words, stdin=subprocess.PIPE) as child:
        commands = Commands()
        end = time.monotonic() + 15
        # Until the kernel has the arguments of a new program, the process has its name only.
        while (command := commands.of(of(child.pid))[child.pid]).text.startswith("["):
            assert time.monotonic() < end
        assert child.stdin is not None
        child.stdin.close()
    assert command.text.startswith(f"{sys.executable} -c import sys; sys.stdin.read() xxx")
    assert len(command.text) == MAX_BYTES
    if os.geteuid() == 0:
        assert command.user == "root"


def test_a_process_that_has_ended_has_none() -> None:
    child = subprocess.Popen((sys.executable, "-c", ""))
    child.wait()
    assert Commands().of(of(child.pid)) == {}


def test_another_process_with_the_number_of_a_container_is_not_read() -> None:
    """The container's process has ended, and its number is another process's."""
    container = snapshots.container(1, pids=(os.getpid(),))
    snapshot = snapshots.eight()
    (first, *others) = snapshot.holders
    holder = replace(first, container=container)
    reading = of(os.getpid()).reading
    commands = Commands().of(replace(snapshot, holders=(holder, *others), reading=reading))
    assert commands[os.getpid()].text == "[python]"
