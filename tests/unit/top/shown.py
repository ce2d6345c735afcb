# SPDX-License-Identifier: Apache-2.0
"""Frames of snapshots made by hand."""

from __future__ import annotations

from typing import Any

from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.top.frame import Frame, State, frame
from cdi_gen.top.glyphs import UNICODE, Glyphs
from cdi_gen.top.history import History
from cdi_gen.top.lines import plain
from cdi_gen.top.occupants import occupants
from cdi_gen.top.sample import Command, Sample
from cdi_gen.top.view import View


def state(
    snapshot: Snapshot,
    view: View | None = None,
    commands: dict[int, str] | None = None,
    **facts: Any,
) -> State:
    """Return what a frame shows of a snapshot."""
    texts = {pid: Command(user="root", text=text) for pid, text in (commands or {}).items()}
    sample = Sample(snapshot=snapshot, commands=texts)
    users = occupants(sample)
    history = History()
    history.add(sample, users)
    return State(sample=sample, occupants=users, history=history, view=view or View(), **facts)


def screen(
    shown: State, columns: int = 160, rows: int = 40, glyphs: Glyphs = UNICODE
) -> tuple[Frame, list[str]]:
    """Return a frame, and the text of its lines."""
    drawn = frame(shown, columns, rows, glyphs)
    return drawn, [plain(line).rstrip() for line in drawn.lines]


def text(shown: State, columns: int = 160, rows: int = 40, glyphs: Glyphs = UNICODE) -> str:
    """Return the text of a frame."""
    return "\n".join(screen(shown, columns, rows, glyphs)[1])


def line_with(shown: State, words: str, columns: int = 160, rows: int = 40) -> str:
    """Return the only line of a frame that has these words."""
    (line,) = [line for line in screen(shown, columns, rows)[1] if words in line]
    return line
