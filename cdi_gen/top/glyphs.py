# SPDX-License-Identifier: Apache-2.0
"""The characters that are drawn, and the characters of names that may be printed.

A name may have any character. Those that move the cursor, change the direction of the line or join
the character before them are escaped, so that a name takes the columns that `width` says, and
changes nothing but them. `cdi_base.errors.printable` leaves marks and right-to-left letters as they
are, which shift the rest of a line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cdi_base.errors import printable

_JOINED = frozenset({"Mn", "Mc", "Me"})
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_JAMO = (range(0x1160, 0x1200), range(0xD7B0, 0xD800))
"""Vowels and final consonants of Korean, which join the consonant before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """The characters that a terminal can show."""

    filled: str
    half: str
    track: str
    levels: str
    """Of a history, from nothing to all; none touches the line above."""
    dash: str
    """For a value that is not known."""
    ellipsis: str
    degree: str
    folded: str
    unfolded: str
    branch: str
    up: str
    down: str
    is_ascii: bool = False

    def clean(self, text: str) -> str:
        """Return a name in one line, in characters that are one or two columns wide."""
        if text.isascii():
            return printable(text)
        if self.is_ascii:
            return ascii(text)[1:-1] if not text.isprintable() else _escaped(text)
        return "".join(
            char if char.isascii() or _is_safe(char) else _escaped(char)
            for char in printable(unicodedata.normalize("NFC", text))
        )

    def bar(self, share: float, columns: int) -> tuple[str, str]:
        """Return the filled part and the rest of a bar; what is not 0 is seen."""
        halves = round(min(max(share, 0), 1) * columns * 2)
        if share > 0:
            halves = max(halves, 1)
        filled = self.filled * (halves // 2) + self.half * (halves % 2)
        return filled, self.track * (columns - len(filled))

    def history(self, shares: Sequence[float | None], columns: int) -> str:
        """Return the last shares, one in a column; a space where nothing is known."""
        top = len(self.levels) - 1
        drawn = "".join(
            " " if share is None else self.levels[round(min(max(share, 0), 1) * top)]
            for share in shares[-columns:]
        )
        return drawn.rjust(columns)


UNICODE = Glyphs(
    filled="━",
    half="╸",
    track="─",
    levels="▁▂▃▄▅▆▇",
    dash="\u2013",
    ellipsis="…",
    degree="°",
    folded="▸",
    unfolded="▾",
    branch="└",
    up="↑",
    down="↓",
)
ASCII = Glyphs(
    filled="|",
    half="|",
    track=".",
    levels="_.-:=+*",
    dash="-",
    ellipsis="~",
    degree=" ",
    folded="+",
    unfolded="-",
    branch="`",
    up="^",
    down="v",
    is_ascii=True,
)


def width(text: str) -> int:
    """Return the columns of a text that `Glyphs.clean` has returned."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, columns: int, ellipsis: str) -> str:
    """Return the text, or its beginning with an ellipsis, in at most so many columns."""
    if width(text) <= columns:
        return text
    kept, used = "", 0
    for char in text:
        used += width(char)
        if used > columns - 1:
            break
        kept += char
    return (kept + ellipsis)[:columns]


def _is_safe(char: str) -> bool:
    return (
        unicodedata.category(char) not in _JOINED
        and unicodedata.bidirectional(char) not in _RIGHT_TO_LEFT
        and not any(ord(char) in block for block in _JAMO)
    )


def _escaped(text: str) -> str:
    return "".join(char if char.isascii() else ascii(char)[1:-1] for char in text)


def of_locale(environment: Mapping[str, str], encoding: str) -> Glyphs:
    """Return the characters that the terminal of the user can show.

    Args:
        environment: the variables of this process.
        encoding: of the locale, as Python sees it.
    """
    variables = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environment[name] for name in variables if environment.get(name)), "C")
    # Python sets LC_CTYPE itself in the locale C (PEP 538), which says nothing about the terminal.
    is_coerced = locale == "C.UTF-8" and environment.get("LANG", "C") in {"", "C", "POSIX"}
    is_utf8 = encoding.lower().replace("-", "") == "utf8" and not is_coerced
    # The fonts of the kernel's console have 256 or 512 characters.
    return UNICODE if is_utf8 and environment.get("TERM") != "linux" else ASCII
