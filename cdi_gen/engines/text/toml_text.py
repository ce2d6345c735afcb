# SPDX-License-Identifier: Apache-2.0
"""Edits single keys of a TOML text; comments, order and blanks of the other keys are unchanged.

tomlkit parses the text and serializes single values. It does not serialize the file, since that
would change other lines (it indents headers). The edited text is parsed and compared with the
expected table: a form that this module does not handle, such as a table in dots, is not changed,
and the error names the key to set by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from cdi_gen.engines.text.syntax import UTF_8_HINT, Path
from cdi_gen.engines.text.toml_statements import Statement, last_of_list, statements
from cdi_gen.errors import CdiGenError

Table = dict[str, Any]


class TOMLTextError(CdiGenError):
    """The text is not TOML, or cannot be changed as requested."""

    code = "CDG-E003"


def parse(text: str | None, file: str | None = None) -> Table:
    """The table that a text contains, as plain values; no text is an empty table.

    Raises:
        TOMLTextError: the text is not TOML; the message names the file, if it has one.
    """
    where = f"{file}: " if file else ""
    if text and text.startswith("\ufeff"):
        raise TOMLTextError(f"{where}line 1: a byte order mark", hint=UTF_8_HINT)
    try:
        document = tomlkit.parse(text or "")
        # tomlkit has unwrap() from 0.11 on; Ubuntu 22.04 packages 0.9.2.
        table: Table = document.unwrap() if hasattr(document, "unwrap") else _unwrapped(document)
    except RecursionError:
        raise TOMLTextError(f"{where}too many levels") from None
    except (TOMLKitError, ValueError) as error:
        hint = "correct the file, and run the command again" if file else None
        raise TOMLTextError(f"{where}{error}", hint=hint) from None
    return table


def _unwrapped(value: Any) -> Any:
    """A value without tomlkit's types: what ``unwrap()`` returns."""
    if isinstance(value, Mapping):
        return {str(key): _unwrapped(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_unwrapped(member) for member in value]
    for scalar in (bool, int, float, str):
        if isinstance(value, scalar):
            return scalar(value)
    return value


def get(table: Mapping[str, Any], path: Path) -> Any:
    """The value at a path; None if there is none, or if a value on the way is not a table."""
    value: Any = table
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def with_value(text: str, path: Path, value: Any) -> str:
    """The text with a value at a path; the same text if it has that value already.

    Raises:
        TOMLTextError: the text is not TOML, a value on the way is not a table, or the form of the
            file is not supported.
    """
    expected = parse(text)
    current = get(expected, path)
    if current == value and isinstance(current, bool) == isinstance(value, bool):
        return text
    table = expected
    for depth, name in enumerate(path[:-1], start=1):
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise TOMLTextError(f"{dotted(path[:depth])} is not a table", code="CDG-E004")
    table[path[-1]] = value
    old = _statements_below(text, path)
    if (
        len(old) == 1
        and old[0].path == path
        and not old[0].is_header
        and not isinstance(value, dict)
    ):
        new_text = text[: old[0].value] + _written(value) + text[old[0].value_end :]
    else:
        new_text = _inserted(_cut(text, old), path, value)
    return _checked(new_text, expected, path, value)


def with_item(text: str, path: Path, item: str) -> str:
    """The text with one more item, the last, in the list at a path; a missing list is added.

    Raises:
        TOMLTextError: see `with_value`.
    """
    current = get(parse(text), path)
    if current is None:
        return with_value(text, path, [item])
    if not isinstance(current, list):
        raise TOMLTextError(f"{dotted(path)} is not a list", code="CDG-E004")
    expected = parse(text)
    get(expected, path).append(item)
    new_text = ""
    for statement in _statements(text):
        if statement.path == path:
            new_text = _with_last(text, statement, quoted(item))
    return _checked(new_text, expected, path, [*current, item])


def without(text: str, path: Path, above: int = 0) -> str:
    """The text without the key at a path, and without the tables above it that are then empty.

    Args:
        text: of the file.
        path: of the key.
        above: how many of the tables above the key are kept, empty or not.

    Raises:
        TOMLTextError: the text is not TOML, or the form of the file is not supported.
    """
    expected = parse(text)
    if get(expected, path) is None:
        return text
    removed = path
    for length in range(len(path), above, -1):
        removed = path[:length]
        table = get(expected, removed[:-1])
        del table[removed[-1]]
        if table:
            break
    return _checked(_cut(text, _statements_below(text, removed)), expected, path, None)


def _with_last(text: str, statement: Statement, item: str) -> str:
    """The text with one more item in the list that a statement sets."""
    last = last_of_list(text, statement.value, statement.value_end)
    if last == statement.value + 1:
        return text[:last] + item + text[last:]
    comma = "" if text[last - 1] == "," else ","
    newline = text.find("\n", last, statement.value_end)
    if newline < 0:
        return f"{text[:last]}{comma} {item}{text[last:]}"
    # The item gets a line of its own; a comment after the item before stays with that item.
    line = f"\n{_indent(text, last)}{item}{'' if comma else ','}"
    return text[:last] + comma + text[last:newline] + line + text[newline:]


def _statements_below(text: str, path: Path) -> list[Statement]:
    """The statements that set the value at a path, or a part of it."""
    return [statement for statement in _statements(text) if statement.path[: len(path)] == path]


def _statements(text: str) -> list[Statement]:
    try:
        return [*statements(text)]
    except (ValueError, SyntaxError):
        raise TOMLTextError("cannot be changed in this form of file", code="CDG-E004") from None


def render(table: Table) -> str:
    """A table as text."""
    return tomlkit.dumps(table)


def quoted(value: str) -> str:
    """A string as TOML writes it."""
    return tomlkit.string(value).as_string()


def dotted(path: Path) -> str:
    """A path as TOML writes it."""
    return tomlkit.key([*path]).as_string()


def _written(value: Any) -> str:
    text: str = tomlkit.item(value).as_string()
    return text


class _TOML:
    """TOML as a syntax of configuration files (`syntax.Syntax`)."""

    def check(self, text: str) -> None:
        parse(text)

    def find(self, text: str, path: Path) -> str | None:
        value = get(parse(text), path)
        return None if value is None else self.written(value)

    def value(self, written: str) -> Any:
        return parse(written)["value"]

    def put(self, text: str, path: Path, new_value: str) -> str:
        return with_value(text, path, self.value(new_value))

    def written(self, value: Any) -> str:
        return render({"value": value})

    def remove(self, text: str, path: Path, above: int) -> str:
        return without(text, path, above)

    def is_empty(self, text: str) -> bool:
        return not parse(text)


TOML = _TOML()


def _cut(text: str, statements: list[Statement]) -> str:
    """The text without some statements, and without the blank line before a removed header."""
    for statement in reversed(statements):
        start = statement.start
        if statement.is_header and text[:start].endswith("\n\n"):
            start -= 1
        text = text[:start] + text[statement.end :]
    return text


def _inserted(text: str, path: Path, value: Any) -> str:
    """The text with a key that it does not have: a table at its end, another in its table."""
    if isinstance(value, dict):
        return _appended(text, render(_nested(path, value)))
    line = f"{tomlkit.key(path[-1]).as_string()} = {_written(value)}\n"
    statements = _statements(text)
    headers = [statement for statement in statements if statement.is_header]
    siblings = [
        statement
        for statement in statements
        if statement.path[:-1] == path[:-1] and not statement.is_header
    ]
    header = next((header for header in headers if header.path == path[:-1]), None)
    if header:
        following = [other.start for other in headers if other.start > header.start]
        until = min(following, default=len(text))
        inside = [sibling for sibling in siblings if header.start < sibling.start < until]
        last = inside[-1] if inside else header
        return _after(text, last.end, _indent(text, last.end - 1 if inside else last.start) + line)
    if len(path) > 1:
        return _appended(text, f"[{dotted(path[:-1])}]\n{line}")
    first = headers[0].start if headers else len(text)
    before = [sibling for sibling in siblings if sibling.start < first]
    if before:
        return _after(text, before[-1].end, line)
    if not headers:
        return _after(text, len(text), line)
    return f"{text[:first]}{line}\n{text[first:]}"


def _nested(path: Path, table: Table) -> Table:
    for name in reversed(path):
        table = {name: table}
    return table


def _after(text: str, position: int, line: str) -> str:
    """The text with a line after another line, which may be the last and lack its newline."""
    if position and text[position - 1] != "\n":
        return f"{text[:position]}\n{line.removesuffix(chr(10))}{text[position:]}"
    return text[:position] + line + text[position:]


def _appended(text: str, section: str) -> str:
    if not text.strip():
        return text + section
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}\n{section}"


def _indent(text: str, position: int) -> str:
    """The blanks at the start of the line of a position."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _checked(new_text: str, expected: Table, path: Path, value: Any) -> str:
    try:
        is_as_expected = parse(new_text) == expected
    except TOMLTextError:
        is_as_expected = False
    if not is_as_expected:
        hint = f"set {dotted(path)} to {value!r} by hand" if value is not None else None
        hint = hint or f"remove {dotted(path)} by hand"
        raise TOMLTextError(
            f"{dotted(path)} cannot be changed in this form of file", hint=hint, code="CDG-E004"
        )
    return new_text
