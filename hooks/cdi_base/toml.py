# SPDX-License-Identifier: Apache-2.0
"""Reads the subset of TOML 1.0 that configuration files use.

Python's own reader needs Python 3.11 and imports regular expressions. This one reads tables, dotted
and quoted keys, strings on one line, decimal integers, booleans, arrays and inline tables. Floats,
dates, arrays of tables, strings of several lines, integers of another base and NUL characters are
rejected with an error that names them. Text that the standard forbids is rejected: a key twice, a
table twice, a stray character. Each error says its line.
"""

from __future__ import annotations

from cdi_base.errors import HookError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    Key = tuple[str, ...]
    Table = dict[str, object]

MAX_DEPTH = 32
"""The largest number of levels of arrays and inline tables, and of parts of a key."""
_LARGEST = (1 << 63) - 1

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_BARE = _LETTERS + _DIGITS + "_-"
_BLANK = " \t"
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
_END_OF_WORD = frozenset(" \t\n,]}#")
_CONTROL = frozenset(map(chr, [*range(9), *range(10, 32), 127]))


class TomlError(HookError):
    """The text is not TOML, or TOML that is not supported: `line N: message`."""

    code = "CDG-C102"


def parse(text: str) -> tuple[Table, dict[Key, int]]:
    """Return the document, and the line of each of its keys and table headers, counted from 1.

    Raises:
        TomlError: the text is not TOML, or TOML that is not supported.
    """
    return _Reader(text).document()


class _Reader:
    """A position in a text, and the document as far as it was read."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n") + "\n"
        self._at = 0
        self._root: Table = {}
        self._lines: dict[Key, int] = {}
        # Tables that a header must not open: those of earlier headers and of dotted keys.
        self._closed: set[Key] = set()
        # Tables of dotted keys under the current header, which may still add keys to them.
        self._open: set[Key] = set()
        # Inline tables and arrays, which nothing may be added to.
        self._inline: set[Key] = set()

    def document(self) -> tuple[Table, dict[Key, int]]:
        text, end = self._text, len(self._text)
        if text.startswith("\ufeff"):
            raise self._fault("a byte order mark; save the file as UTF-8 without it")
        header: Key = ()
        line, counted = 1, 0
        while True:
            self._skip(_BLANK + "\n")
            if self._at >= end:
                return self._root, self._lines
            line += text.count("\n", counted, self._at)
            counted = self._at
            char = text[self._at]
            if char == "[":
                header = self._header()
                self._lines.setdefault(header, line)
            elif char != "#":
                key = self._pair(header)
                self._lines[key] = line
            self._end_of_line()

    # Statements.

    def _header(self) -> Key:
        if self._text.startswith("[[", self._at):
            raise self._fault("arrays of tables, [[...]], are not supported")
        start = self._at
        self._at += 1
        key = self._key()
        if not self._accept("]"):
            raise self._fault("']' is missing after the name of a table")
        self._closed |= self._open
        self._open = set()
        if key in self._closed or self._is_inline(key):
            raise self._fault(f"the table {_dotted(key)} is defined twice", start)
        self._closed.add(key)
        self._table(key, start)
        return key

    def _pair(self, header: Key) -> Key:
        start = self._at
        own = self._key()
        if not self._accept("="):
            raise self._fault("'=' is missing after a key")
        key = header + own
        for length in range(len(header) + 1, len(key)):
            if key[:length] in self._closed:
                raise self._fault(
                    f"{_dotted(key[:length])} is already a table with its own header", start
                )
            self._open.add(key[:length])
        value = self._value(0)
        if self._is_inline(key[:-1]):
            raise self._fault(
                f"{_dotted(key[:-1])} is an inline value and cannot be extended", start
            )
        table = self._table(key[:-1], start)
        if key[-1] in table:
            raise self._fault(f"{_dotted(key)} is defined twice", start)
        table[key[-1]] = value
        if isinstance(value, (dict, list)):
            self._inline.add(key)
        return key

    def _table(self, key: Key, start: int) -> Table:
        """Return the table of this name; it is created if it does not exist."""
        table = self._root
        for part in key:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                raise self._fault(f"{_dotted(key)}: {_dotted((part,))} is not a table", start)
            table = inner
        return table

    def _is_inline(self, key: Key) -> bool:
        return bool(self._inline) and any(
            key[:length] in self._inline for length in range(1, len(key) + 1)
        )

    def _key(self) -> Key:
        parts = []
        while True:
            self._skip(_BLANK)
            char = self._text[self._at]
            if char in "\"'":
                parts.append(self._string(char))
            else:
                parts.append(self._bare_key())
            if not parts[-1] and char not in "\"'":
                raise self._fault("a key is missing, or has a character that needs quotes")
            if len(parts) > MAX_DEPTH:
                raise self._fault(f"a key has more than {MAX_DEPTH} parts")
            if not self._accept("."):
                return tuple(parts)

    # Values.

    def _value(self, depth: int) -> object:
        self._skip(_BLANK)
        if depth > MAX_DEPTH:
            raise self._fault(f"values are nested more than {MAX_DEPTH} levels deep")
        char = self._text[self._at]
        if char in "\"'":
            return self._string(char)
        if char == "[":
            return self._array(depth)
        if char == "{":
            return self._inline_table(depth)
        start = self._at
        while self._text[self._at] not in _END_OF_WORD:
            self._at += 1
        word = self._text[start : self._at]
        if word in {"true", "false"}:
            return word == "true"
        return self._integer(word, start)

    def _integer(self, word: str, start: int) -> int:
        digits = word[1:] if word[:1] in {"+", "-"} else word
        groups = digits.split("_")
        if not all(group and not group.strip(_DIGITS) for group in groups):
            raise self._fault(_rejection(word, digits), start)
        if len(digits) > 1 and digits.startswith("0"):
            raise self._fault(f"{shown(word)} has a leading zero", start)
        if len(digits) > 40 or int(digits.replace("_", "")) > _LARGEST:
            raise self._fault("integers of more than 64 bits are not supported", start)
        return int(word.replace("_", ""))

    def _string(self, quote: str) -> str:
        if self._text.startswith(quote * 3, self._at):
            raise self._fault(f"strings of several lines, {quote * 3}, are not supported")
        start = self._at
        self._at += 1
        plain = self._text[self._at : self._text.find(quote, self._at)]
        if plain.isprintable() and "\\" not in plain and self._text[self._at + len(plain)] == quote:
            self._at += len(plain) + 1
            return plain
        ends = _CONTROL | {quote, "\\"}
        pieces = []
        while True:
            begin = self._at
            while self._text[self._at] not in ends:
                self._at += 1
            char = self._text[self._at]
            pieces.append(self._text[begin : self._at])
            self._at += 1
            if char == quote:
                return "".join(pieces)
            if char == "\n":
                raise self._fault("a string does not end on its line", start)
            if char != "\\":
                raise self._fault(f"the control character {shown(char)} in a string", start)
            pieces.append(self._escaped() if quote == '"' else "\\")

    def _escaped(self) -> str:
        char = self._text[self._at]
        self._at += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        digits = {"u": 4, "U": 8}.get(char, 0)
        code = self._text[self._at : self._at + digits]
        if not digits or len(code) < digits or code.strip("0123456789abcdefABCDEF"):
            raise self._fault("an unknown escape sequence after a backslash", self._at - 2)
        number = int(code, 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise self._fault(f"\\{char}{code} is not a character", self._at - 2)
        if not number:  # no path, name or number that a configuration has contains it
            raise self._fault(f"\\{char}{code}, a NUL character, is not supported", self._at - 2)
        self._at += digits
        return chr(number)

    def _array(self, depth: int) -> list[object]:
        self._at += 1
        items: list[object] = []
        while True:
            self._skip_lines()
            if self._accept("]"):
                return items
            items.append(self._value(depth + 1))
            self._skip_lines()
            if not self._accept(","):
                if self._accept("]"):
                    return items
                raise self._fault("',' or ']' is missing in an array")

    def _inline_table(self, depth: int) -> Table:
        self._at += 1
        table: Table = {}
        closed: set[Key] = set()
        if self._accept("}"):
            return table
        while True:
            start = self._at
            key = self._key()
            if not self._accept("="):
                raise self._fault("'=' is missing after a key")
            inner = table
            for length, part in enumerate(key[:-1], 1):
                below = inner.setdefault(part, {})
                if not isinstance(below, dict) or key[:length] in closed:
                    raise self._fault(
                        f"{_dotted(key[:length])} is an inline value and cannot be extended", start
                    )
                inner = below
            if key[-1] in inner:
                raise self._fault(f"{_dotted(key)} is defined twice", start)
            value = inner[key[-1]] = self._value(depth + 1)
            if isinstance(value, dict):
                closed.add(key)
            if self._accept("}"):
                return table
            if not self._accept(","):
                raise self._fault("',' or '}' is missing in an inline table, which is one line")

    # Characters. The text ends with a newline, so that a next character always exists.

    def _skip(self, chars: str) -> None:
        text, at, end = self._text, self._at, len(self._text)
        while at < end and text[at] in chars:
            at += 1
        self._at = at

    def _skip_lines(self) -> None:
        """Skip blanks, newlines and comments."""
        while True:
            self._skip(_BLANK + "\n")
            if self._at >= len(self._text):
                self._at = len(self._text) - 1
                raise self._fault("an array does not end")
            if self._text[self._at] != "#":
                return
            self._end_of_line()

    def _bare_key(self) -> str:
        """Read letters, digits, `_` and `-`; in pieces, since single characters are slow."""
        start = self._at
        rest = ""
        while not rest:
            piece = self._text[self._at : self._at + 64]
            rest = piece.lstrip(_BARE)
            self._at += len(piece) - len(rest)
        return self._text[start : self._at]

    def _accept(self, char: str) -> bool:
        """Skip blanks; if the next character is this one, skip it too and return True."""
        self._skip(_BLANK)
        if self._text[self._at] != char:
            return False
        self._at += 1
        return True

    def _end_of_line(self) -> None:
        """Read the rest of a line: blanks and perhaps a comment."""
        self._skip(_BLANK)
        end = self._text.index("\n", self._at)
        if self._text[self._at] == "#":
            comment = self._text[self._at : end]
            if not comment.isprintable() and not _CONTROL.isdisjoint(comment):
                raise self._fault("a control character in a comment")
        elif self._at != end:
            raise self._fault(
                f"{shown(self._text[self._at : end][:40])} after the end of a statement"
            )
        self._at = end

    def _fault(self, message: str, at: int | None = None) -> TomlError:
        before = self._text.count("\n", 0, self._at if at is None else at)
        return TomlError(f"line {before + 1}: {message}")


def _rejection(word: str, digits: str) -> str:
    """Return why a word is not a supported value."""
    if not word:
        return "a value is missing"
    if digits[:2] in {"0x", "0o", "0b"}:
        return f"{shown(word)}: only integers of base 10 are supported"
    if digits in {"inf", "nan"} or (
        digits[:1].isdecimal() and not digits.strip("0123456789_.eE+-")
    ):
        # A date has these characters too, except its colons and letters.
        is_date = digits.count("-") == 2 and "." not in digits and "e" not in digits.lower()
        return f"{shown(word)}: {'dates' if is_date else 'floats'} are not supported"
    if digits[:1].isdecimal() and not digits.strip("0123456789-:.TtZz+"):
        return f"{shown(word)}: dates and times are not supported"
    return f"{shown(word)} is not a value; text needs quotes"


def _dotted(key: Key) -> str:
    """Return a key as it is written, for a message."""
    return shown(".".join(key))
