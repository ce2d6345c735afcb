# SPDX-License-Identifier: Apache-2.0
"""Parses strict JSON, with the position of every value in the text.

Constructs that only some readers accept (a name twice, NaN, a byte order mark) are rejected,
because the engine may be a reader that rejects them.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from cdi_gen.engines.text.syntax import UTF_8_HINT
from cdi_gen.errors import CdiGenError

MAX_DEPTH = 64
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")

MAX_DIGITS = 400
"""The longest number that is compared as a number; Python rejects numbers of 4301 digits."""


class JSONTextError(CdiGenError):
    """The text is not strict JSON; the message names line and column."""

    code = "CDG-E002"


class Node(NamedTuple):
    """A value, and its position in the text: ``text[start:end]``."""

    start: int
    end: int
    members: dict[str, Member] | None
    """The members of an object, in the order of the text; None for another value."""


class Member(NamedTuple):
    """A member of an object: the start and the end of its name, and its value."""

    start: int
    name_end: int
    value: Node


def parse(text: str) -> Node:
    """The values of a text with their positions; the text must be one object.

    Raises:
        JSONTextError: the text is not strict JSON, or not an object.
    """
    if text.startswith("\ufeff"):
        raise JSONTextError("line 1: a byte order mark", hint=UTF_8_HINT)
    node = _Reader(text).document()
    if node.members is None:
        raise JSONTextError("not a JSON object")
    return node


def value(text: str) -> dict[str, Any]:
    """The object that a text contains.

    Raises:
        JSONTextError: see `parse`.
    """
    parse(text)
    members: dict[str, Any] = loads(text)
    return members


def loads(text: str) -> Any:
    """The value of a JSON text; a number of more than `MAX_DIGITS` digits becomes a text.

    Raises:
        ValueError: the text is not JSON.
        RecursionError: the text has too many levels.
    """
    return json.loads(text, parse_int=_number, parse_float=_float)


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _float(digits: str) -> float | str:
    return float(digits) if len(digits) <= MAX_DIGITS else digits


class _Reader:
    """Parses a text in one pass."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def document(self) -> Node:
        self.skip_space()
        node = self.value(0)
        self.skip_space()
        if self.position != len(self.text):
            raise self.error("text after the end of the object")
        return node

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} levels")
        start = self.position
        first = self.text[start : start + 1]
        if first == "{":
            members = self.members(depth)
            return Node(start, self.position, members)
        if first == "[":
            self.items(depth)
        elif not self.match(_STRING) and not self.match(_SCALAR):
            raise self.error("not a JSON value")
        return Node(start, self.position, None)

    def members(self, depth: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        self.position += 1
        self.skip_space()
        if self.take("}"):
            return members
        while True:
            start = self.position
            if not self.match(_STRING):
                raise self.error("a name in quotes is missing")
            name_end = self.position
            name = json.loads(self.text[start:name_end])
            if name in members:
                self.position = start
                raise self.error(f"{json.dumps(name)} is a duplicate key")
            self.skip_space()
            if not self.take(":"):
                raise self.error("a colon is missing")
            self.skip_space()
            members[name] = Member(start, name_end, self.value(depth + 1))
            self.skip_space()
            if self.take("}"):
                return members
            if not self.take(","):
                raise self.error("a comma or a closing brace is missing")
            self.skip_space()

    def items(self, depth: int) -> None:
        self.position += 1
        self.skip_space()
        if self.take("]"):
            return
        while True:
            self.value(depth + 1)
            self.skip_space()
            if self.take("]"):
                return
            if not self.take(","):
                raise self.error("a comma or a closing bracket is missing")
            self.skip_space()

    def skip_space(self) -> None:
        self.match(_SPACE)

    def take(self, character: str) -> bool:
        is_next = self.text.startswith(character, self.position)
        self.position += is_next
        return is_next

    def match(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.position)
        if match:
            self.position = match.end()
        return match is not None

    def error(self, problem: str) -> JSONTextError:
        before = self.text[: self.position]
        line = before.count("\n") + 1
        column = self.position - (before.rfind("\n") + 1) + 1
        return JSONTextError(f"line {line}, column {column}: {problem}")
