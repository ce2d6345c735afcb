# SPDX-License-Identifier: Apache-2.0
"""Edits single members of a JSON text, and no other byte of it.

Parsing and serializing the file would lose its layout, and how a number is written (``2**70``,
``1.10``). So a change is an insertion or a replacement in the text itself.

The text is read strictly: what only some readers accept (a name twice, NaN, a byte order mark) is
rejected, since the engine may be one of the others.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from cdi_gen.engines.text.syntax import Path
from cdi_gen.errors import CdiGenError

MAX_DEPTH = 64
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_INDENT = "    "

MAX_DIGITS = 400
"""Of a number that is compared as one: no value of ours is longer, and Python refuses 4301."""


class JSONTextError(CdiGenError):
    """The text is not strict JSON; the message names line and column."""

    code = "CDG-E002"


class Node(NamedTuple):
    """A value, and where it stands: ``text[start:end]``."""

    start: int
    end: int
    members: dict[str, Member] | None
    """Of an object, in the order of the text; None for anything else."""


class Member(NamedTuple):
    """A member of an object: where its name begins and ends, and its value."""

    start: int
    name_end: int
    value: Node


def parse(text: str) -> Node:
    """Where everything in a text stands; the whole of it must be one object.

    Raises:
        JSONTextError: it is not, or it is not strict JSON.
    """
    if text.startswith("\ufeff"):
        raise JSONTextError("line 1: a byte order mark")
    node = _Reader(text).whole()
    if node.members is None:
        raise JSONTextError("not a JSON object")
    return node


def value(text: str) -> dict[str, Any]:
    """What a text says.

    Raises:
        JSONTextError: see `parse`.
    """
    parse(text)
    said: dict[str, Any] = loads(text)
    return said


def loads(text: str) -> Any:
    """What a JSON text says; a number of more than `MAX_DIGITS` digits stays a text.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it has too many levels.
    """
    return json.loads(text, parse_int=_number, parse_float=_float)


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _float(digits: str) -> float | str:
    return float(digits) if len(digits) <= MAX_DIGITS else digits


def find(text: str, path: Path) -> str | None:
    """The text of the value at a path; None where there is none."""
    node = _at(parse(text), path)
    return text[node.start : node.end] if node else None


def with_member(text: str, path: Path, wanted: str) -> str:
    """The text, and in it ``wanted``, which is JSON itself, as the value at a path.

    A value that says the same already stays as it is written. A new member is the last of its
    object, laid out as those before it; objects on the way are made.

    Raises:
        JSONTextError: see `parse`; or what is on the way is no object.
    """
    root = parse(text)
    node, depth = root, 0
    for depth, name in enumerate(path):
        if node.members is None:
            raise JSONTextError(f"{'.'.join(path[:depth])} is not an object", code="CDG-E004")
        if name not in node.members:
            break
        node = node.members[name].value
    else:
        if _same(loads(text[node.start : node.end]), json.loads(wanted)):
            return text
        indent = _indent_at(text, node.start)
        laid_out = _laid_out(json.loads(wanted), indent, _step(text, root), _is_flat(text, root))
        return text[: node.start] + laid_out + text[node.end :]
    new = json.loads(wanted)
    for name in reversed(path[depth + 1 :]):
        new = {name: new}
    return _inserted(text, root, node, path[depth], new)


def without_member(text: str, path: Path) -> str:
    """The text without the member at a path: the reverse of `with_member`.

    Raises:
        JSONTextError: see `parse`.
    """
    node = _at(parse(text), path[:-1])
    if node is None or node.members is None or path[-1] not in node.members:
        return text
    names = [*node.members]
    place = names.index(path[-1])
    member = node.members[path[-1]]
    if place > 0:
        before = node.members[names[place - 1]].value.end
        return text[:before] + text[member.value.end :]
    if len(names) > 1:
        return text[: member.start] + text[node.members[names[1]].start :]
    return text[: node.start] + "{}" + text[node.end :]


class _JSON:
    """JSON as a language of configuration files (`syntax.Syntax`)."""

    def check(self, text: str) -> None:
        if text.strip():
            parse(text)

    def find(self, text: str, path: Path) -> str | None:
        return find(text, path) if text.strip() else None

    def value(self, found: str) -> Any:
        return loads(found)

    def put(self, text: str, path: Path, wanted: str) -> str:
        """As it is written: a number that was there before keeps all its digits."""
        if _at(parse(text), path) is None:
            text = with_member(text, path, "null")
        node = _at(parse(text), path)
        return text[: node.start] + wanted + text[node.end :] if node else text

    def written(self, value: Any) -> str:
        return json.dumps(value)

    def remove(self, text: str, path: Path, above: int) -> str:
        text = without_member(text, path)
        for length in range(len(path) - 1, above, -1):
            node = _at(parse(text), path[:length])
            if node is None or node.members:
                break
            text = without_member(text, path[:length])
        return text

    def is_empty(self, text: str) -> bool:
        return text.strip() in {"", "{}"}


JSON = _JSON()


def _same(one: Any, other: Any) -> bool:
    """Whether two values say the same; for Python ``1`` and ``true`` do."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _at(node: Node, path: Path) -> Node | None:
    for name in path:
        if node.members is None or name not in node.members:
            return None
        node = node.members[name].value
    return node


def _inserted(text: str, root: Node, node: Node, name: str, new: Any) -> str:
    """The text with one member more, as the last, in the object at ``node``."""
    assert node.members is not None  # noqa: S101 - the caller's check
    flat = _is_flat(text, root)
    step = _step(text, root)
    if not node.members:
        outer = _indent_at(text, node.start)
        member = f"{json.dumps(name)}: "
        if flat:
            inside = member + _laid_out(new, outer, step, flat)
        else:
            laid_out = _laid_out(new, outer + step, step, flat)
            inside = f"\n{outer}{step}{member}{laid_out}\n{outer}"
        return f"{text[: node.start]}{{{inside}}}{text[node.end :]}"
    members = [*node.members.values()]
    last = members[-1]
    before = members[-2].value.end if len(members) > 1 else node.start
    # From the comma, or from the brace, to the name: how members are set apart here.
    apart = text[before : last.start].partition("," if len(members) > 1 else "{")[2]
    colon = text[last.name_end : last.value.start]
    if len(members) == 1 and not apart and colon.endswith(" "):
        apart = " "
    flat = _is_flat(text, node)
    laid_out = _laid_out(new, _indent_at(text, last.start), step, flat)
    added = f",{apart}{json.dumps(name)}{colon}{laid_out}"
    return text[: last.value.end] + added + text[last.value.end :]


def _laid_out(new: Any, indent: str, step: str, flat: bool) -> str:
    """A value as text: over lines as the file is, but short lists and empty objects in one."""
    if flat or not isinstance(new, dict) or not new:
        return json.dumps(new)
    inner = indent + step
    lines = ",\n".join(
        f"{inner}{json.dumps(name)}: {_laid_out(each, inner, step, flat)}"
        for name, each in new.items()
    )
    return f"{{\n{lines}\n{indent}}}"


def _is_flat(text: str, node: Node) -> bool:
    """Whether an object with members is in one line: then ours are not the first to break it."""
    return bool(node.members) and "\n" not in text[node.start : node.end]


def _step(text: str, root: Node) -> str:
    """By what the members of the outermost object are indented."""
    for member in (root.members or {}).values():
        indent = _indent_at(text, member.start)
        if indent:
            return indent
    return _INDENT


def _indent_at(text: str, place: int) -> str:
    """The blanks with which the line of a place begins."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line[: len(line) - len(line.lstrip(" \t"))]


class _Reader:
    """Reads a text once, from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def whole(self) -> Node:
        self.space()
        node = self.value(0)
        self.space()
        if self.place != len(self.text):
            raise self.wrong("something after the end of the object")
        return node

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.wrong(f"more than {MAX_DEPTH} levels")
        start = self.place
        first = self.text[start : start + 1]
        if first == "{":
            members = self.members(depth)
            return Node(start, self.place, members)
        if first == "[":
            self.items(depth)
        elif not self.matched(_STRING) and not self.matched(_SCALAR):
            raise self.wrong("no JSON value")
        return Node(start, self.place, None)

    def members(self, depth: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        self.place += 1
        self.space()
        if self.taken("}"):
            return members
        while True:
            start = self.place
            if not self.matched(_STRING):
                raise self.wrong("a name in quotes is missing")
            name_end = self.place
            name = json.loads(self.text[start:name_end])
            if name in members:
                self.place = start
                raise self.wrong(f"{json.dumps(name)} a second time")
            self.space()
            if not self.taken(":"):
                raise self.wrong("a colon is missing")
            self.space()
            members[name] = Member(start, name_end, self.value(depth + 1))
            self.space()
            if self.taken("}"):
                return members
            if not self.taken(","):
                raise self.wrong("a comma or a closing brace is missing")
            self.space()

    def items(self, depth: int) -> None:
        self.place += 1
        self.space()
        if self.taken("]"):
            return
        while True:
            self.value(depth + 1)
            self.space()
            if self.taken("]"):
                return
            if not self.taken(","):
                raise self.wrong("a comma or a closing bracket is missing")
            self.space()

    def space(self) -> None:
        self.matched(_SPACE)

    def taken(self, character: str) -> bool:
        found = self.text.startswith(character, self.place)
        self.place += found
        return found

    def matched(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.place)
        if match:
            self.place = match.end()
        return match is not None

    def wrong(self, what: str) -> JSONTextError:
        before = self.text[: self.place]
        line = before.count("\n") + 1
        column = self.place - (before.rfind("\n") + 1) + 1
        return JSONTextError(f"line {line}, column {column}: {what}")
