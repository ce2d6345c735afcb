# SPDX-License-Identifier: Apache-2.0
"""What users of nvtop, nvitop, btop and gpustat have reported, rebuilt on a fake host."""

from __future__ import annotations

import os
import sys

import pytest

from tests.top.busy_host import BusyHost
from tests.top.conftest import Start


def test_a_connection_that_breaks_ends_the_view(start: Start, busy: BusyHost) -> None:
    """btop 1597: with sudo su, no SIGHUP arrives, and the view took a processor for ever."""
    command = f"exec {sys.executable} -m cdi_gen top --host-root {busy.root} -n 0.2"
    session = start(shell=("sh", "-c", f"trap '' HUP; {command}"))
    silent, other = os.pipe()
    os.dup2(silent, session.master)  # closes the terminal's end; a pipe is never ready
    session.wait_for_end()  # with a code that nobody is there to see
    os.close(silent)
    os.close(other)


@pytest.mark.parametrize("terminal", ["vt100", "linux", "ansi"])
def test_terminals_that_cannot_hide_the_cursor_or_colour(start: Start, terminal: str) -> None:
    """nvitop 97 and 108: curs_set() returned ERR in tmux, over ssh and on a console."""
    session = start(TERM=terminal)
    session.press("q")
    assert session.wait_for_end() == 0


def test_a_terminal_without_a_cursor_is_an_error(start: Start) -> None:
    """nvtop 485: a minimal terminal, as of editors and CI, showed nothing that helps."""
    session = start(until="CDG-O301", TERM="dumb", columns=200)
    assert session.wait_for_end() == 1
    assert "cdi-gen top --once" in session.text()
