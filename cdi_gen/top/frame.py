# SPDX-License-Identifier: Apache-2.0
"""Composes the lines of a screen from a sample, what came before, and the view; pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cdi_gen.top import container_table, gpu_table, keys_help, table
from cdi_gen.top.container_table import Context, Entry
from cdi_gen.top.glyphs import Glyphs
from cdi_gen.top.history import History
from cdi_gen.top.lines import Line, Piece, Style, columns_of, fitted, plain, restyled
from cdi_gen.top.occupants import Occupant
from cdi_gen.top.sample import Sample, devices
from cdi_gen.top.table import Column, Row
from cdi_gen.top.view import Pane, Prompt, Shown, View

GPUS_AT_MOST = 0.45
"""The share of the screen's tables that GPUs take if not all rows fit."""
LATE = 3.0
"""A pass that takes so many seconds longer than the interval is shown as late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a frame shows."""

    sample: Sample
    occupants: tuple[Occupant, ...]
    """Of the sample."""
    history: History
    view: View
    host: str = ""
    """The name of the host."""
    age: float = 0.0
    """Seconds since the sample was taken."""
    error: str = ""
    """Why the last pass failed; the sample is of an earlier one."""
    is_root: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A screen."""

    lines: tuple[Line, ...]
    view: View
    """With the parts of the tables that are seen."""
    shown: Shown


def frame(state: State, columns: int, rows: int, glyphs: Glyphs) -> Frame:
    """Return the screen in exactly so many columns and rows."""
    if state.view.is_help:
        return _help(state.view, columns, rows, glyphs)
    gpu_rows = _gpu_rows(state, glyphs) if state.view.has_gpus else []
    gpu_part = _Part(gpu_table.COLUMNS, gpu_rows, columns, glyphs)
    entries, container_part = _containers(state, columns, glyphs)
    top = [_header(state, columns, glyphs), *_texts(state, columns, glyphs)[:2]]
    left = rows - len(top) - 2 - (1 if gpu_rows else 0)
    gpu_height, container_height = _heights(len(gpu_rows), len(entries), left)
    view = state.view
    gpus = view.gpus.moved(len(gpu_rows), gpu_height)
    containers = view.containers.moved(len(entries), container_height)
    view = replace(view, gpus=gpus, containers=containers)
    lines = [
        *top,
        *(gpu_part.lines(gpus, gpu_height, is_active=view.is_on_gpus) if gpu_rows else ()),
        *container_part.lines(containers, container_height, is_active=not view.is_on_gpus),
    ]
    if not entries:
        lines.append(_nothing(state, columns, glyphs))
    blank = fitted((), columns, glyphs)
    lines = [*lines, *[blank] * rows][: max(rows - 1, 0)]
    selected = entries[containers.selected].occupant.key if entries else None
    return Frame(
        lines=(*lines, _footer(view, columns, glyphs)),
        view=view,
        shown=Shown(
            gpu_rows=len(gpu_rows),
            gpu_height=gpu_height,
            container_rows=len(entries),
            container_height=container_height,
            selected=selected,
        ),
    )


def whole(state: State, columns: int, glyphs: Glyphs) -> list[Line]:
    """Return all lines at once, for output that is no screen; without what could not be seen."""
    gpu_part = _Part(gpu_table.COLUMNS, _gpu_rows(state, glyphs), columns, glyphs)
    entries, container_part = _containers(state, columns, glyphs)
    return [
        _header(state, columns, glyphs),
        *_notices(_alarms(state), Style.ALARM, columns, glyphs),
        *(gpu_part.all_lines() if gpu_part.rows else ()),
        *(container_part.all_lines() if entries else [_nothing(state, columns, glyphs)]),
    ]


class _Part:
    """A table of the screen."""

    def __init__(
        self, columns: Sequence[Column], rows: Sequence[Row], total: int, glyphs: Glyphs
    ) -> None:
        self.rows = rows
        self._columns = columns
        self._total = total
        self._glyphs = glyphs
        self._widths = table.widths(columns, rows, total)

    def has(self, key: str) -> bool:
        """Whether a column is shown."""
        return key in self._widths

    def lines(self, pane: Pane, height: int, *, is_active: bool) -> list[Line]:
        """Return the head and the rows that are seen."""
        lines = [self._head(pane, height)]
        for number in range(pane.first, min(pane.first + height, len(self.rows))):
            line = self._line(self.rows[number])
            is_selected = is_active and number == pane.selected
            lines.append(restyled(line, Style.SELECTED) if is_selected else line)
        return lines

    def all_lines(self) -> list[Line]:
        """Return the head and all rows."""
        return [
            table.head(self._columns, self._widths, self._total, self._glyphs),
            *map(self._line, self.rows),
        ]

    def _line(self, row: Row) -> Line:
        return table.drawn(row, self._columns, self._widths, self._total, self._glyphs)

    def _head(self, pane: Pane, height: int) -> Line:
        """Return the titles, and at their end which rows are seen if not all of them are."""
        line = table.head(self._columns, self._widths, self._total, self._glyphs)
        if len(self.rows) <= height:
            return line
        last = min(pane.first + height, len(self.rows))
        seen = f"{pane.first + 1}-{last}" if height > 0 else "0"
        text = f" {seen}/{len(self.rows)}"
        titles = plain(line)[: max(self._total - len(text), 0)]
        return fitted((Piece(titles + text, Style.HEAD),), self._total, self._glyphs, Style.HEAD)


def _gpu_rows(state: State, glyphs: Glyphs) -> list[Row]:
    return gpu_table.rows(state.sample.snapshot.reading, state.history, glyphs)


def _containers(state: State, columns: int, glyphs: Glyphs) -> tuple[list[Entry], _Part]:
    """Return the rows of containers, and their table."""
    reading = state.sample.snapshot.reading
    chosen = container_table.ordered(state.occupants, state.view, reading)
    entries, part = _container_part(state, chosen, columns, glyphs, has_pods=True)
    if any(occupant.pod for occupant in chosen) and not part.has("pod"):
        return _container_part(state, chosen, columns, glyphs, has_pods=False)
    return entries, part


def _container_part(
    state: State, chosen: Sequence[Occupant], columns: int, glyphs: Glyphs, *, has_pods: bool
) -> tuple[list[Entry], _Part]:
    context = Context(
        devices=devices(state.sample.snapshot.reading),
        history=state.history,
        glyphs=glyphs,
        has_pods=has_pods,
    )
    entries = container_table.entries(chosen, state.view, context)
    rows = [entry.row for entry in entries]
    return entries, _Part(container_table.columns(state.view, glyphs), rows, columns, glyphs)


def _heights(gpus: int, containers: int, left: int) -> tuple[int, int]:
    """Return the heights of the two tables on so many lines."""
    left = max(left, 0)
    if gpus + containers <= left:
        return gpus, left - gpus
    share = max(left - containers, round(left * GPUS_AT_MOST), 1 if gpus else 0)
    height = min(gpus, share, left)
    return height, left - height


def _header(state: State, columns: int, glyphs: Glyphs) -> Line:
    snapshot = state.sample.snapshot
    reading = snapshot.reading
    view = state.view
    clock = time.strftime("%H:%M:%S", time.localtime(reading.time)) if reading.time else ""
    state_text = "paused" if view.is_paused else f"every {view.interval:g} s"
    driver = f"driver {reading.driver_version}" if reading.driver_version else ""
    cuda = f"CUDA {reading.cuda_version}" if reading.cuda_version else ""
    counts = (
        f"{len(snapshot.holders)} of {snapshot.containers} containers"
        if snapshot.containers
        else "no containers"
    )
    texts = [
        (0, Piece("cdi-gen top", Style.STRONG)),
        (4, Piece(glyphs.clean(state.host))),
        (2, Piece(clock)),
        (5, Piece(glyphs.clean(driver), Style.FAINT)),
        (7, Piece(glyphs.clean(cuda), Style.FAINT)),
        (6, Piece("1 GPU" if len(reading.gpus) == 1 else f"{len(reading.gpus)} GPUs")),
        (3, Piece(counts)),
        (1, Piece(state_text, Style.NOTICE if view.is_paused else Style.PLAIN)),
    ]
    if view.words:
        texts.append((1, Piece(f"filter: {glyphs.clean(view.words)}", Style.NOTICE)))
    return fitted(_joined(texts, columns), columns, glyphs)


def _joined(texts: Sequence[tuple[int, Piece]], columns: int) -> Line:
    """Return texts with two spaces between them, without the last ranks that do not fit."""
    kept = [(rank, piece) for rank, piece in texts if piece.text]
    while len(kept) > 1 and columns_of(p for _, p in kept) + 2 * (len(kept) - 1) > columns:
        kept.remove(max(kept, key=lambda ranked: ranked[0]))
    line: list[Piece] = []
    for _, piece in kept:
        line += [*([Piece("  ")] if line else []), piece]
    return tuple(line)


def _texts(state: State, columns: int, glyphs: Glyphs) -> list[Line]:
    """Return what is wrong, and what could not be seen; the worst first."""
    unseen = [f"not seen: {text}" for text in state.sample.snapshot.unseen]
    if unseen and not state.is_root:
        unseen[0] += "; run: sudo cdi-gen top"
    return [
        *_notices(_alarms(state), Style.ALARM, columns, glyphs),
        *_notices(unseen, Style.NOTICE, columns, glyphs),
    ]


def _alarms(state: State) -> list[str]:
    alarms = [text for text in (state.error, state.sample.snapshot.reading.error) if text]
    if state.age > state.view.interval + LATE and not state.view.is_paused:
        alarms.append(f"the last pass ended {state.age:.0f} s ago")
    return alarms


def _notices(texts: Sequence[str], style: Style, columns: int, glyphs: Glyphs) -> list[Line]:
    return [fitted((Piece(glyphs.clean(text), style),), columns, glyphs) for text in texts]


def _nothing(state: State, columns: int, glyphs: Glyphs) -> Line:
    """Return why there is no row of a container."""
    snapshot = state.sample.snapshot
    if state.view.words or state.view.typed:
        text = "no container has all words of the filter"
    elif not snapshot.reading.time:
        text = "measuring"
    elif not snapshot.reading.gpus:
        text = "no GPU"
    else:
        text = f"no container has a GPU ({snapshot.containers} running)"
    return fitted((Piece(text, Style.FAINT),), columns, glyphs)


def _footer(view: View, columns: int, glyphs: Glyphs) -> Line:
    if view.prompt is not None:
        text = f"{view.prompt.value}: {glyphs.clean(view.typed)}"
        hint = "  Enter: take it  Esc: " + (
            "no filter" if view.prompt is Prompt.FILTER else f"keep {view.interval:g}"
        )
        pieces = [Piece(text, Style.STRONG), Piece("_", Style.SELECTED), Piece(hint, Style.FAINT)]
        return fitted(pieces, columns, glyphs)
    line: list[Piece] = []
    for key, text in keys_help.FOOTER:
        pair = [Piece(f"{key} ", Style.STRONG), Piece(f"{text} ", Style.HEAD)]
        if columns_of([*line, *pair]) <= columns:
            line += pair
    return fitted(line, columns, glyphs)


def _help(view: View, columns: int, rows: int, glyphs: Glyphs) -> Frame:
    texts = keys_help.lines(glyphs, columns)
    height = max(rows - 1, 0)
    first = min(view.help_first, max(len(texts) - height, 0))
    lines = [fitted(line, columns, glyphs) for line in texts[first : first + height]]
    lines += [fitted((), columns, glyphs)] * (height - len(lines))
    footer = fitted((Piece("any key: back", Style.STRONG),), columns, glyphs)
    return Frame(
        lines=(*lines, footer),
        view=replace(view, help_first=first),
        shown=Shown(help_rows=max(len(texts) - height, 0) + 1),
    )
