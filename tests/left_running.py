# SPDX-License-Identifier: Apache-2.0
"""A test that leaves a thread or a child process running fails.

What one test leaves running changes what the next ones see: descriptors, time, memory.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

LAB = "tests/lab/enter.py"
"""The process of an entered lab, which a fixture of the session keeps for the tests after this."""

PATIENCE = 10
"""Seconds in which threads and processes that were told to end do so, also on a busy machine."""


def has_children() -> bool:
    """Return whether this process has children, also if they ended and were not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def child_processes() -> Iterator[str]:
    """Yield the id and the command line of each child of this process."""
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                words = (directory / "cmdline").read_bytes().split(b"\0")
                yield f"process {directory.name} {os.fsdecode(b' '.join(words)).strip()}"


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fail if threads or child processes of the test go on.

    Those of fixtures with a longer life may; while such a fixture has a child process, a child
    process of the test is not noticed.
    """
    threads, had_children = set(threading.enumerate()), has_children()
    yield
    end = time.monotonic() + PATIENCE
    left = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in left:
        thread.join(max(0, end - time.monotonic()))
    while not had_children and has_children() and time.monotonic() < end:
        time.sleep(0.01)
    running = [f"thread {thread.name}" for thread in left if thread.is_alive()]
    if not had_children and has_children():
        running += [process for process in child_processes() if LAB not in process]
    assert not running, f"the test leaves running: {', '.join(running)}"
