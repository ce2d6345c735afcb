# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen top`` in a pseudo-terminal, on a fake host whose containers use its GPUs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.top.busy_host import BusyHost
from tests.top.conftest import Start
from tests.top.screen import Session

ENTER_OTHER_SCREEN, LEAVE_OTHER_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
COLOUR = re.compile(rb"\x1b\[[\d;]*(?:3[0-8]|4[0-8])(?:;[\d;]*)?m")
SHOW_CURSOR = re.compile(rb"\x1b\[(?:34h\x1b\[)?\?25h")

SEQUENCE = re.compile(rb"\x1b(?:\[[\d;?]*[a-z]|[>=])")


def row_of(session: Session, name: str) -> str:
    """Return the row that has a word."""
    return next((line for line in session.lines() if name in line.split()), "")


def test_what_nvml_tells_of_gpus_and_containers_is_on_the_screen(
    start: Start, busy: BusyHost
) -> None:
    session = start()
    assert "gpu-node-7" in session.lines()[0]
    assert "6 of 6 containers" in session.lines()[0]
    assert row_of(session, "vllm-chat").split()[1:4] == ["vllm-chat", "docker", "3"]
    assert "66.0 GiB" in row_of(session, "vllm-chat")
    assert "research/llama-pretrain-0" in row_of(session, "trainer")
    busy.values.set("7", utilization_gpu=43, temperature=77)
    session.wait(lambda: "77°C" in row_of(session, "7"), "the new values")
    assert "43%" in row_of(session, "7")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(lambda session: session.press("q"), 0, id="q"),
        pytest.param(lambda session: session.press("\x1b[21~"), 0, id="F10"),
        pytest.param(lambda session: session.press("\x03"), 0, id="ctrl-c"),
        pytest.param(lambda session: session.press("?qq"), 0, id="q-after-help"),
        pytest.param(
            lambda session: os.kill(session.pid, signal.SIGTERM), -signal.SIGTERM, id="sigterm"
        ),
    ],
)
def test_the_terminal_is_left_as_it_was(
    start: Start, end: Callable[[Session], None], code: int
) -> None:
    session = start(TERM="xterm-256color")
    end(session)
    assert session.wait_for_end() == code
    assert session.modes() == session.first_modes
    assert session.written.count(ENTER_OTHER_SCREEN) == 1
    after = session.written.partition(LEAVE_OTHER_SCREEN)[2]
    assert session.written.count(LEAVE_OTHER_SCREEN) == 1
    assert SHOW_CURSOR.search(session.written.rpartition(b"?25l")[2])
    assert not SEQUENCE.sub(b"", after).strip()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs a shell with jobs")
def test_it_is_suspended_and_goes_on(start: Start, busy: BusyHost) -> None:
    """By a shell with jobs: the kernel does not stop a process that no shell could continue."""
    shell = (str(shutil.which("bash")), "--norc", "--noprofile", "-i")
    session = start(shell=shell, until="prompt>", PS1="prompt> ")
    program = f"{sys.executable} -m cdi_gen top"
    session.press(f"{program} --host-root {busy.root} -n 0.2; echo code $?\n")
    session.wait_for("trainer")
    session.press("\x1a")
    session.wait_for(f"code {128 + signal.SIGTSTP}")
    assert session.written.count(ENTER_OTHER_SCREEN) == 1
    assert session.written.count(LEAVE_OTHER_SCREEN) == 1
    session.press("fg\n")
    session.wait(lambda: session.written.count(ENTER_OTHER_SCREEN) >= 2, "the tables again")
    session.press("p")
    session.wait_for("paused")
    session.press("q")
    session.wait(lambda: session.written.endswith(b"prompt> "), "the shell again")
    assert session.written.count(LEAVE_OTHER_SCREEN) >= 2
    session.press("exit\n")
    assert session.wait_for_end() == 0


def test_the_window_may_change_its_size(start: Start) -> None:
    session = start(columns=120, rows=30)
    for columns, rows in ((40, 10), (300, 100), (80, 24)):
        session.resize(columns, rows)

        def is_filled(columns: int = columns, rows: int = rows) -> bool:
            lines = session.screen.display
            has_footer = lines[rows - 1].startswith("F1 Help")
            return has_footer and lines[1].startswith("GPU") and "llam" in session.text()

        session.wait(is_filled, f"a screen of {columns}x{rows}")
        # The head of the table of GPUs reaches from the left to the right end.
        assert session.screen.buffer[1][columns - 1].bg == session.screen.buffer[1][0].bg
    session.press("q")
    assert session.wait_for_end() == 0


@pytest.mark.parametrize(("columns", "rows"), [(40, 10), (300, 100)])
def test_small_and_large_windows(start: Start, columns: int, rows: int) -> None:
    session = start(columns=columns, rows=rows, until="llama", COLUMNS="77", LINES="33")
    lines = session.lines()
    assert lines[0].startswith("cdi-gen top")
    assert lines[rows - 1].startswith("F1 Help")
    assert any(line.startswith("0 ") and "%" in line for line in lines)


def test_a_gpu_that_hangs_says_so_and_the_view_goes_on(start: Start, busy: BusyHost) -> None:
    session = start()
    busy.values.hang("3")
    session.wait(lambda: "has not answered" in row_of(session, "3"), "the GPU that hangs")
    busy.values.set("7", temperature=88)
    session.wait(lambda: "88°C" in row_of(session, "7"), "values of another GPU")
    busy.values.recover("3")
    session.wait(lambda: "GiB" in row_of(session, "3"), "the GPU's values")
    busy.values.hang("3")
    session.wait(lambda: "has not answered" in row_of(session, "3"), "the GPU that hangs again")
    session.press("q")
    assert session.wait_for_end() == 0


def test_keys_filter_sort_pause_and_expand(start: Start, busy: BusyHost) -> None:
    session = start()
    session.press("/VLLM")
    session.wait_for("Filter: VLLM")
    session.wait_without("trainer")
    session.press("\n ")
    session.wait_for("root python -m vllm")
    session.press("\x1b")
    session.wait_for("trainer")
    session.press("N")
    session.wait(lambda: first_container(session) == "forgotten-experiment", "sorted by name")
    session.press("p")
    session.wait_for("paused")
    busy.values.set("7", temperature=91)
    session.press("I")
    session.wait(lambda: first_container(session) != "forgotten-experiment", "inverted")
    assert "91°C" not in session.text()
    session.press("p")
    session.wait_for("91°C")
    session.press("d3\n")
    session.wait_for("every 3 s")
    session.press("?")
    session.wait_for("any key: back")
    session.press("x")
    session.wait_for("CONTAINER")


def first_container(session: Session) -> str:
    """Return the name in the row under the head of containers."""
    lines = session.lines()
    number = next((n for n, line in enumerate(lines) if line.startswith("CONTAINER")), -2)
    words = lines[number + 1].split()
    return words[1] if len(words) > 1 else ""


def test_hostile_names_change_nothing_but_their_cells(start: Start, busy: BusyHost) -> None:
    pid = busy.start_on_host("7", "\x1b[2Jx\x1b]0;owned\x07\u202e", 1, 5)
    assert (busy.root / f"proc/{pid}/cmdline").read_bytes().startswith(b"\x1b[2J")
    session = start("--filter", "owned", until="in no container", columns=250)
    session.press("*")
    session.wait_for(r"\x1b[2Jx\x1b]0;owned\x07\u202e")
    assert b"\x1b]0" not in session.written
    assert "\u202e".encode() not in session.written


@pytest.mark.parametrize(
    ("options", "variables", "has_colours"),
    [
        pytest.param((), {}, True, id="colours"),
        pytest.param((), {"TERM": "linux"}, True, id="16-colours"),
        pytest.param((), {"NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param(("-C",), {}, False, id="no-color"),
        pytest.param((), {"TERM": "vt100"}, False, id="monochrome"),
    ],
)
def test_colours_are_used_only_where_they_may(
    start: Start, options: tuple[str, ...], variables: dict[str, str], has_colours: bool
) -> None:
    session = start(*options, **variables)
    assert bool(COLOUR.search(session.written)) is has_colours
    assert any(cell.reverse or cell.bg != "default" for cell in selected_row(session))


def selected_row(session: Session) -> list[Any]:
    """Return the cells of the row that is selected."""
    number = next(n for n, line in enumerate(session.lines()) if "trainer" in line.split())
    return [session.screen.buffer[number][column] for column in range(20)]


def test_without_utf_8_only_ascii_is_drawn(start: Start) -> None:
    session = start(LANG="C")
    assert session.written.isascii()
    assert "||||" in session.text()


def test_a_terminal_of_an_unknown_type_is_an_error_with_a_hint(start: Start) -> None:
    session = start(until="CDG-O301", TERM="unheard-of", columns=200)
    assert session.wait_for_end() == 1
    assert "TERM=xterm-256color cdi-gen top" in session.text()
    assert session.modes() == session.first_modes
