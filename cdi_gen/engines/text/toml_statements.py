# SPDX-License-Identifier: Apache-2.0
"""Where the statements of a TOML text are: its table headers and its keys.

For text that a parser has taken already: this knows where things end, and not whether they are
right.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.engines.text.syntax import Path

_STRING = (
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
)
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_PIECE = re.compile(rf"(?s:{_STRING})|#[^\n]*|[\[\]{{}}]|\n|[^\[\]{{}}\"'#\n]+")
_REST = re.compile(r"[^\n]*\n?")
_ITEM = "[[item]]"
"""Stands in a path for the item of an array of tables, which no path names."""


class Statement(NamedTuple):
    """A header or a key, and its place in the text."""

    path: Path
    """From the document: of a key, its table's included."""
    is_header: bool
    start: int
    """Of the line that it begins in."""
    value: int
    """Where a key's value begins; of a header, where it ends."""
    value_end: int
    end: int
    """Of the line that it ends in, the newline included."""


def statements(text: str) -> Iterator[Statement]:
    """Every statement, in the order of the text."""
    place = 0
    table: Path = ()
    while True:
        place = _end(_BLANK, text, place)
        if place >= len(text):
            return
        start = text.rfind("\n", 0, place) + 1
        if text[place] == "[":
            many = text.startswith("[[", place)
            table, place = _key(text, _end(_SPACE, text, place + 1 + many))
            if many:
                table = (*table, _ITEM)
            place = text.index("]", place) + 1 + many
            end = _end(_REST, text, place)
            yield Statement(table, True, start, place, place, end)
        else:
            name, place = _key(text, place)
            value = _end(_SPACE, text, text.index("=", place) + 1)
            value_end = _value_end(text, value)
            end = _end(_REST, text, value_end)
            yield Statement((*table, *name), False, start, value, value_end, end)
        place = end


def last_of_list(text: str, value: int, value_end: int) -> int:
    """Where the last thing in a list, an item or a comma, ends; ``value`` + 1 if it is empty."""
    last = value + 1
    for match in _PIECE.finditer(text, value + 1, value_end - 1):
        piece = match[0]
        if not piece.startswith("#") and piece.strip():
            last = match.start() + len(piece.rstrip())
    return last


def _key(text: str, place: int) -> tuple[Path, int]:
    """A dotted key, and where it ends."""
    parts = []
    while True:
        match = _PART.match(text, place)
        if match is None:
            raise ValueError(f"no key at {place}")
        part = match[0]
        if part.startswith('"'):
            part = _unescaped(part)
        elif part.startswith("'"):
            part = part[1:-1]
        parts.append(part)
        dot = _DOT.match(text, match.end())
        if dot is None:
            return tuple(parts), match.end()
        place = dot.end()


def _unescaped(part: str) -> str:
    # Python's escapes are TOML's and more; \e and \xHH of TOML 1.1 aside, which no parser here has.
    unescaped: str = ast.literal_eval(part)
    return unescaped


def _value_end(text: str, place: int) -> int:
    """Where the value that begins here ends."""
    depth = 0
    end = place
    for match in _PIECE.finditer(text, place):
        piece = match[0]
        if depth == 0 and (piece == "\n" or piece.startswith("#")):
            break
        if piece in "[{":
            depth += 1
        elif piece in "]}":
            depth -= 1
        if not piece.startswith("#") and piece.strip():
            end = match.start() + len(piece.rstrip())
    return end


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place
