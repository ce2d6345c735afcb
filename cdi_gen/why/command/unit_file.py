# SPDX-License-Identifier: Apache-2.0
"""Reads unit files of systemd, and Podman's quadlets, which have the same syntax."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """A line of a unit file."""

    section: str
    key: str
    value: str
    line: int


def entries(text: str) -> Iterator[Entry]:
    """The assignments of a unit file, with continued lines joined.

    A comment within a continued line does not end it (systemd.syntax(7)).
    """
    section = ""
    pending = ""
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith(("#", ";")) or (not stripped and not pending):
            continue
        if not pending:
            first = number
        if line.endswith("\\"):
            pending += f"{line[:-1].strip()} "
            continue
        whole, pending = (pending + stripped).strip(), ""
        if whole.startswith("[") and whole.endswith("]"):
            section = whole[1:-1]
            continue
        key, equals, value = whole.partition("=")
        if equals:
            yield Entry(section, key.strip(), value.strip(), first)


def words(value: str) -> list[str]:
    """The words of a value, split as systemd splits command lines and assignments."""
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def last(listed: list[Entry], section: str, key: str) -> str:
    """The value that counts of a key that has one value; empty if there is none."""
    values = all_values(listed, section, key)
    return values[-1] if values else ""


def all_values(listed: list[Entry], section: str, key: str) -> list[str]:
    """The values of a key; an empty one cancels those before it."""
    values: list[str] = []
    for entry in listed:
        if (entry.section, entry.key) == (section, key):
            values = [*values, entry.value] if entry.value else []
    return values
