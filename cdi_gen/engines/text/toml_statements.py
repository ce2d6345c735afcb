# SPDX-License-Identifier: Apache-2.0
"""Finds the statements of a TOML text: its table headers and its keys.

The text must be valid TOML: this module finds the ends of statements, and does not check them.
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
    """A header or a key, and its position in the text."""

    path: Path
    """The path from the document; for a key it includes the path of the table."""
    is_header: bool
    start: int
    """The start of the line in which the statement begins."""
    value: int
    """The start of a key's value; the end of a header."""
    value_end: int
    end: int
    """The end of the line in which the statement ends, including the newline."""


def statements(text: str) -> Iterator[Statement]:
    """Every statement, in the order of the text."""
    position = 0
    table: Path = ()
    while True:
        position = _end(_BLANK, text, position)
        if position >= len(text):
            return
        start = text.rfind("\n", 0, position) + 1
        if text[position] == "[":
            many = text.startswith("[[", position)
            table, position = _key(text, _end(_SPACE, text, position + 1 + many))
            if many:
                table = (*table, _ITEM)
            position = text.index("]", position) + 1 + many
            end = _end(_REST, text, position)
            yield Statement(table, True, start, position, position, end)
        else:
            name, position = _key(text, position)
            value = _end(_SPACE, text, text.index("=", position) + 1)
            value_end = _value_end(text, value)
            end = _end(_REST, text, value_end)
            yield Statement((*table, *name), False, start, value, value_end, end)
        position = end


def last_of_list(text: str, value: int, value_end: int) -> int:
    """The end of the last item or comma in a list; ``value`` + 1 if the list is empty."""
    last = value + 1
    for match in _PIECE.finditer(text, value + 1, value_end - 1):
        piece = match[0]
        if not piece.startswith("#") and piece.strip():
            last = match.start() + len(piece.rstrip())
    return last


def _key(text: str, position: int) -> tuple[Path, int]:
    """A dotted key, and its end."""
    parts = []
    while True:
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f"no key at {position}")
        part = match[0]
        if part.startswith('"'):
            part = _unescaped(part)
        elif part.startswith("'"):
            part = part[1:-1]
        parts.append(part)
        dot = _DOT.match(text, match.end())
        if dot is None:
            return tuple(parts), match.end()
        position = dot.end()


def _unescaped(part: str) -> str:
    # Python's escapes include those of TOML 1.0; tomlkit rejects \e and \xHH of TOML 1.1.
    unescaped: str = ast.literal_eval(part)
    return unescaped


def _value_end(text: str, position: int) -> int:
    """The end of the value that begins at a position."""
    depth = 0
    end = position
    for match in _PIECE.finditer(text, position):
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


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
