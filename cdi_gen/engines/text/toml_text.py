# SPDX-License-Identifier: Apache-2.0
"""Edits single keys of a TOML text; comments, order and blanks of the rest are unchanged.

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

from cdi_gen.engines.text.syntax import Path
from cdi_gen.engines.text.toml_statements import Statement, last_of_list, statements
from cdi_gen.errors import CdiGenError

Table = dict[str, Any]


class TOMLTextError(CdiGenError):
    """The text is not TOML, or cannot be changed as requested."""

    code = "CDG-E003"


def parse(text: str | None, file: str | None = None) -> Table:
    """What a text says, as plain values; no text says nothing.

    Raises:
        TOMLTextError: it is no TOML; the message names the file, if it has one.
    """
    where = f"{file}: " if file else ""
    if text and text.startswith("\ufeff"):
        raise TOMLTextError(f"{where}line 1: a byte order mark")
    try:
        document = tomlkit.parse(text or "")
        # tomlkit has unwrap() from 0.11 on; Ubuntu 22.04 packages 0.9.2.
        table: Table = document.unwrap() if hasattr(document, "unwrap") else _unwrapped(document)
    except RecursionError:
        raise TOMLTextError(f"{where}too many levels") from None
    except (TOMLKitError, ValueError) as error:
        hint = "put it right, and run the command again" if file else None
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
    """The value at a path; None where there is none, or where no table is on the way."""
    found: Any = table
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def with_value(text: str, path: Path, wanted: Any) -> str:
    """The text, and in it ``wanted`` at a path; where it is so already, the same text.

    Raises:
        TOMLTextError: it is no TOML, something on the way is no table, or its form is not known.
    """
    expected = parse(text)
    there = get(expected, path)
    if there == wanted and isinstance(there, bool) == isinstance(wanted, bool):
        return text
    place = expected
    for depth, name in enumerate(path[:-1], start=1):
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise TOMLTextError(f"{dotted(path[:depth])} is not a table", code="CDG-E004")
    place[path[-1]] = wanted
    at = [each for each in _statements(text) if each.path[: len(path)] == path]
    if len(at) == 1 and at[0].path == path and not at[0].is_header and not isinstance(wanted, dict):
        made = text[: at[0].value] + _written(wanted) + text[at[0].value_end :]
    else:
        made = _inserted(_cut(text, at), path, wanted)
    return _checked(made, expected, path, wanted)


def with_item(text: str, path: Path, wanted: str) -> str:
    """The text, and in the list at a path one item more, as its last; a missing list is made.

    Raises:
        TOMLTextError: see `with_value`.
    """
    there = get(parse(text), path)
    if there is None:
        return with_value(text, path, [wanted])
    if not isinstance(there, list):
        raise TOMLTextError(f"{dotted(path)} is not a list", code="CDG-E004")
    expected = parse(text)
    get(expected, path).append(wanted)
    made = ""
    for each in _statements(text):
        if each.path == path:
            made = _with_last(text, each, quoted(wanted))
    return _checked(made, expected, path, [*there, wanted])


def without(text: str, path: Path, above: int = 0) -> str:
    """The text without the key at a path, nor the tables above it that then are empty.

    Args:
        text: all of it.
        path: of the key.
        above: how many of the tables above it stay, empty or not.

    Raises:
        TOMLTextError: it is no TOML, or its form is not known.
    """
    expected = parse(text)
    if get(expected, path) is None:
        return text
    gone = path
    for length in range(len(path), above, -1):
        gone = path[:length]
        table = get(expected, gone[:-1])
        del table[gone[-1]]
        if table:
            break
    at = [each for each in _statements(text) if each.path[: len(gone)] == gone]
    return _checked(_cut(text, at), expected, path, None)


def _with_last(text: str, at: Statement, item: str) -> str:
    """The text with one item more in the list that a statement sets."""
    last = last_of_list(text, at.value, at.value_end)
    if last == at.value + 1:
        return text[:last] + item + text[last:]
    comma = "" if text[last - 1] == "," else ","
    newline = text.find("\n", last, at.value_end)
    if newline < 0:
        return f"{text[:last]}{comma} {item}{text[last:]}"
    # A line of its own, and what is said after the item before stays with that.
    line = f"\n{_indent(text, last)}{item}{'' if comma else ','}"
    return text[:last] + comma + text[last:newline] + line + text[newline:]


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
    """TOML as a language of configuration files (`syntax.Syntax`)."""

    def check(self, text: str) -> None:
        parse(text)

    def find(self, text: str, path: Path) -> str | None:
        there = get(parse(text), path)
        return None if there is None else self.written(there)

    def value(self, found: str) -> Any:
        return parse(found)["value"]

    def put(self, text: str, path: Path, wanted: str) -> str:
        return with_value(text, path, self.value(wanted))

    def written(self, value: Any) -> str:
        return render({"value": value})

    def remove(self, text: str, path: Path, above: int) -> str:
        return without(text, path, above)

    def is_empty(self, text: str) -> bool:
        return not parse(text)


TOML = _TOML()


def _cut(text: str, at: list[Statement]) -> str:
    """The text less some statements, and less the blank line before a header that goes."""
    for each in reversed(at):
        start = each.start
        if each.is_header and text[:start].endswith("\n\n"):
            start -= 1
        text = text[:start] + text[each.end :]
    return text


def _inserted(text: str, path: Path, wanted: Any) -> str:
    """The text with a key that it does not have: a table at its end, another in its table."""
    if isinstance(wanted, dict):
        return _appended(text, render(_nested(path, wanted)))
    own = [each for each in _statements(text) if each.path[:-1] == path[:-1] and not each.is_header]
    line = f"{tomlkit.key(path[-1]).as_string()} = {_written(wanted)}\n"
    headers = [each for each in _statements(text) if each.is_header]
    head = [each for each in headers if each.path == path[:-1]]
    if head:
        following = [each.start for each in headers if each.start > head[0].start]
        until = min(following, default=len(text))
        inside = [each for each in own if head[0].start < each.start < until]
        last = inside[-1] if inside else head[0]
        return _after(text, last.end, _indent(text, last.end - 1 if inside else last.start) + line)
    if len(path) > 1:
        return _appended(text, f"[{dotted(path[:-1])}]\n{line}")
    first = headers[0].start if headers else len(text)
    before = [each for each in own if each.start < first]
    if before:
        return _after(text, before[-1].end, line)
    if not headers:
        return _after(text, len(text), line)
    return f"{text[:first]}{line}\n{text[first:]}"


def _nested(path: Path, wanted: Table) -> Table:
    for name in reversed(path):
        wanted = {name: wanted}
    return wanted


def _after(text: str, place: int, line: str) -> str:
    """The text with a line after another, which may be the last and lack its newline."""
    if place and text[place - 1] != "\n":
        return f"{text[:place]}\n{line.removesuffix(chr(10))}{text[place:]}"
    return text[:place] + line + text[place:]


def _appended(text: str, section: str) -> str:
    if not text.strip():
        return text + section
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}\n{section}"


def _indent(text: str, place: int) -> str:
    """The blanks with which the line of a place begins."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _checked(made: str, expected: Table, path: Path, wanted: Any) -> str:
    try:
        good = parse(made) == expected
    except TOMLTextError:
        good = False
    if not good:
        hint = f"set {dotted(path)} to {wanted!r} by hand" if wanted is not None else None
        hint = hint or f"remove {dotted(path)} by hand"
        raise TOMLTextError(
            f"{dotted(path)} cannot be changed in this form of file", hint=hint, code="CDG-E004"
        )
    return made
