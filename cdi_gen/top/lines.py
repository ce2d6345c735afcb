# SPDX-License-Identifier: Apache-2.0
"""Lines of a screen: pieces of text, each with the name of its style."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from cdi_gen.top.glyphs import Glyphs, cut, width


class Style(Enum):
    """What a piece of text means; a terminal decides how it looks."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    HEAD = "head"
    """The heads of tables, and the line of keys."""
    SELECTED = "selected"
    LOAD = "load"
    """Utilisation."""
    MEMORY = "memory"
    ENGINE = "engine"
    NOTICE = "notice"
    """What should be known, and what is high."""
    ALARM = "alarm"
    """What is wrong."""


class Piece(NamedTuple):
    """A text in one style."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Piece, ...]


def columns_of(line: Iterable[Piece]) -> int:
    """Return the columns that a line takes."""
    return sum(width(piece.text) for piece in line)


def fitted(line: Iterable[Piece], columns: int, glyphs: Glyphs, fill: Style = Style.PLAIN) -> Line:
    """Return the line in exactly so many columns: cut, or filled with spaces."""
    pieces: list[Piece] = []
    left = columns
    for piece in line:
        text = cut(piece.text, left, glyphs.ellipsis)
        pieces.append(piece._replace(text=text))
        left -= width(text)
        if text != piece.text or left <= 0:
            break
    if left > 0:
        pieces.append(Piece(" " * left, fill))
    return tuple(pieces)


def restyled(line: Line, style: Style) -> Line:
    """Return the line in one style."""
    return (Piece(plain(line), style),)


def plain(line: Line) -> str:
    """Return the text of a line."""
    return "".join(piece.text for piece in line)
