# SPDX-License-Identifier: Apache-2.0
"""Tables that fit into any width: columns are narrowed, and the less important ones left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cdi_gen.top.glyphs import Glyphs, cut, width
from cdi_gen.top.lines import Line, Piece, Style, fitted

WIDE = 100
"""From this width on there are two spaces between columns."""
RUNNING = 28
"""The width up to which a text that runs over other columns widens its own."""
LAST_ESSENTIAL = 6
"""Columns of a higher rank get only what is left when the others are as wide as they would be."""


class Gauge(NamedTuple):
    """A cell with a bar for a share from 0 to 1; None: not known."""

    share: float | None
    style: Style = Style.LOAD

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return self.share is None


class Past(NamedTuple):
    """A cell with a history of shares."""

    shares: Sequence[float | None]
    style: Style = Style.LOAD

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return all(share is None for share in self.shares)


Cell = Piece | Gauge | Past


class Column(NamedTuple):
    """A column of a table."""

    key: str
    title: str
    rank: int
    """0: always shown; the column with the highest rank is left out first."""
    least: int = 0
    """The columns below which it is left out, not narrowed; 0: as wide as its widest cell."""
    most: int = 1 << 10
    """The columns above which it is not widened."""
    is_right: bool = False
    """Aligned to the right, as numbers are."""


class Row(NamedTuple):
    """A row of a table."""

    cells: Mapping[str, Cell]
    """By the key of the column; a cell may be missing."""
    message: Piece | None = None
    """Text in place of the cells right of the columns in ``cells``."""
    running: str = ""
    """The key of a text that runs over empty cells right of it, and widens its column a little."""


def widths(columns: Sequence[Column], rows: Sequence[Row], total: int) -> dict[str, int]:
    """Return the width of each column that is shown, by its key."""
    natural = {column.key: _natural(column, rows) for column in columns}
    least = {
        column.key: min(column.least or natural[column.key], natural[column.key])
        for column in columns
    }
    shown: dict[str, int] = {}
    left = total
    by_rank = sorted(columns, key=lambda column: column.rank)
    for is_extra in (False, True):
        ranked = [column for column in by_rank if (column.rank > LAST_ESSENTIAL) is is_extra]
        for column in ranked:
            needed = least[column.key] + (_gap(total) if shown else 0)
            if natural[column.key] and needed <= left:
                shown[column.key] = least[column.key]
                left -= needed
        for column in ranked:
            if column.key in shown:
                more = min(left, natural[column.key] - shown[column.key])
                shown[column.key] += more
                left -= more
    for row in rows:  # what is left over goes to texts that run over other columns
        cell = row.cells.get(row.running)
        if isinstance(cell, Piece) and row.running in shown:
            more = min(left, max(width(cell.text) - shown[row.running], 0))
            shown[row.running] += more
            left -= more
    return {column.key: shown[column.key] for column in columns if column.key in shown}


def head(columns: Sequence[Column], shown: Mapping[str, int], total: int, glyphs: Glyphs) -> Line:
    """Return the line with the titles."""
    titles = {column.key: Piece(column.title, Style.HEAD) for column in columns}
    return drawn(Row(titles), columns, shown, total, glyphs, Style.HEAD)


def drawn(
    row: Row,
    columns: Sequence[Column],
    shown: Mapping[str, int],
    total: int,
    glyphs: Glyphs,
    fill: Style = Style.PLAIN,
) -> Line:
    """Return the line of a row."""
    pieces: list[Piece] = []
    gap = Piece(" " * _gap(total), fill)
    visible = [column for column in columns if column.key in shown]
    while visible:
        column = visible.pop(0)
        cell = row.cells.get(column.key)
        if cell is None and row.message is not None:
            break
        if pieces:
            pieces.append(gap)
        space = shown[column.key]
        while column.key == row.running and visible and visible[0].key not in row.cells:
            space += _gap(total) + shown[visible.pop(0).key]
        pieces += _cell(cell or Piece(""), space, glyphs, fill, is_right=column.is_right)
    if row.message is not None:
        pieces += [gap, row.message]
    return fitted(pieces, total, glyphs, fill)


def _natural(column: Column, rows: Sequence[Row]) -> int:
    """Return the width that the column would like to have; 0 if it has nothing to show."""
    widest = 0
    for row in rows:
        cell = row.cells.get(column.key)
        if isinstance(cell, Piece):
            most = RUNNING if row.running == column.key else column.most
            widest = max(widest, min(width(cell.text), most))
        elif cell is not None and not cell.is_empty:
            return column.most
    return min(max(widest, width(column.title)), column.most) if widest else 0


def _gap(total: int) -> int:
    return 2 if total >= WIDE else 1


def _cell(
    cell: Cell, columns: int, glyphs: Glyphs, fill: Style, *, is_right: bool
) -> tuple[Piece, ...]:
    if isinstance(cell, Gauge):
        if cell.share is None:
            return (Piece(" " * columns, fill),)
        filled, rest = glyphs.bar(cell.share, columns)
        return Piece(filled, cell.style), Piece(rest, Style.FAINT)
    if isinstance(cell, Past):
        return (Piece(glyphs.history(cell.shares, columns), cell.style),)
    text = cut(cell.text, columns, glyphs.ellipsis)
    spaces = Piece(" " * (columns - width(text)), fill)
    return (spaces, Piece(text, cell.style)) if is_right else (Piece(text, cell.style), spaces)
