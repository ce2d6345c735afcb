# SPDX-License-Identifier: Apache-2.0
"""Edits single members of a JSON text; every other byte is unchanged.

Parsing and serializing the file would lose its layout and the digits of a number (``2**70``,
``1.10``). So a change is an insertion or a replacement in the text itself.
"""

from __future__ import annotations

import json
from typing import Any

from cdi_gen.engines.text.json_parser import JSONTextError, Node, loads, parse
from cdi_gen.engines.text.syntax import Path

_INDENT = "    "


def find(text: str, path: Path) -> str | None:
    """The text of the value at a path; None if there is no value."""
    node = _at(parse(text), path)
    return text[node.start : node.end] if node else None


def with_member(text: str, path: Path, new_value: str) -> str:
    """The text with a value, itself a JSON text, at a path.

    An equal value is not changed. A new member is the last of its object, and has the layout of
    the other members; missing objects of the path are created.

    Raises:
        JSONTextError: as `parse`; or a value on the path is not an object.
    """
    root = parse(text)
    node, depth = root, 0
    for depth, name in enumerate(path):
        if node.members is None:
            if text[node.start : node.end] != "null":
                raise JSONTextError(f"{'.'.join(path[:depth])} is not an object", code="CDG-E004")
            # Go reads null as an object without members.
            return _replaced(text, root, node, _nested(path[depth:], json.loads(new_value)))
        if name not in node.members:
            break
        node = node.members[name].value
    else:
        if _are_equal(loads(text[node.start : node.end]), json.loads(new_value)):
            return text
        return _replaced(text, root, node, json.loads(new_value))
    return _inserted(
        text, root, node, path[depth], _nested(path[depth + 1 :], json.loads(new_value))
    )


def without_member(text: str, path: Path) -> str:
    """The text without the member at a path: the reverse of `with_member`.

    Raises:
        JSONTextError: see `parse`.
    """
    node = _at(parse(text), path[:-1])
    if node is None or node.members is None or path[-1] not in node.members:
        return text
    names = [*node.members]
    index = names.index(path[-1])
    member = node.members[path[-1]]
    if index > 0:
        before = node.members[names[index - 1]].value.end
        return text[:before] + text[member.value.end :]
    if len(names) > 1:
        return text[: member.start] + text[node.members[names[1]].start :]
    return text[: node.start] + "{}" + text[node.end :]


class _JSON:
    """JSON as a syntax of configuration files (`syntax.Syntax`)."""

    def check(self, text: str) -> None:
        if text.strip():
            parse(text)

    def find(self, text: str, path: Path) -> str | None:
        return find(text, path) if text.strip() else None

    def value(self, written: str) -> Any:
        return loads(written)

    def put(self, text: str, path: Path, new_value: str) -> str:
        """Put the text of a value unchanged: a number that is restored keeps all its digits."""
        if _at(parse(text), path) is None:
            text = with_member(text, path, "null")
        node = _at(parse(text), path)
        return text[: node.start] + new_value + text[node.end :] if node else text

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


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; in Python ``1`` equals ``True``."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _at(node: Node, path: Path) -> Node | None:
    for name in path:
        if node.members is None or name not in node.members:
            return None
        node = node.members[name].value
    return node


def _nested(path: Path, value: Any) -> Any:
    """A value inside objects with one member each."""
    for name in reversed(path):
        value = {name: value}
    return value


def _replaced(text: str, root: Node, node: Node, new: Any) -> str:
    """The text with another value at ``node``."""
    indent = _indent_at(text, node.start)
    formatted = _formatted(new, indent, _step(text, root), _is_flat(text, root))
    return text[: node.start] + formatted + text[node.end :]


def _inserted(text: str, root: Node, node: Node, name: str, new: Any) -> str:
    """The text with a new last member in the object at ``node``."""
    assert node.members is not None  # noqa: S101 - the caller's check
    flat = _is_flat(text, root)
    step = _step(text, root)
    if not node.members:
        outer = _indent_at(text, node.start)
        member = f"{json.dumps(name)}: "
        if flat:
            inside = member + _formatted(new, outer, step, flat)
        else:
            formatted = _formatted(new, outer + step, step, flat)
            inside = f"\n{outer}{step}{member}{formatted}\n{outer}"
        return f"{text[: node.start]}{{{inside}}}{text[node.end :]}"
    members = [*node.members.values()]
    last = members[-1]
    before = members[-2].value.end if len(members) > 1 else node.start
    # The text from the comma or the brace to the name separates the members of this object.
    apart = text[before : last.start].partition("," if len(members) > 1 else "{")[2]
    colon = text[last.name_end : last.value.start]
    if len(members) == 1 and not apart and colon.endswith(" "):
        apart = " "
    flat = _is_flat(text, node)
    formatted = _formatted(new, _indent_at(text, last.start), step, flat)
    added = f",{apart}{json.dumps(name)}{colon}{formatted}"
    return text[: last.value.end] + added + text[last.value.end :]


def _formatted(new: Any, indent: str, step: str, flat: bool) -> str:
    """The text of a value: objects on several lines, if the file is so; lists on one line."""
    if flat or not isinstance(new, dict) or not new:
        return json.dumps(new)
    inner = indent + step
    lines = ",\n".join(
        f"{inner}{json.dumps(name)}: {_formatted(member, inner, step, flat)}"
        for name, member in new.items()
    )
    return f"{{\n{lines}\n{indent}}}"


def _is_flat(text: str, node: Node) -> bool:
    """Whether an object has members and is written on one line."""
    return bool(node.members) and "\n" not in text[node.start : node.end]


def _step(text: str, root: Node) -> str:
    """The indentation of the members of the outermost object."""
    for member in (root.members or {}).values():
        indent = _indent_at(text, member.start)
        if indent:
            return indent
    return _INDENT


def _indent_at(text: str, position: int) -> str:
    """The blanks at the start of the line of a position."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]
