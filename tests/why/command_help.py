# SPDX-License-Identifier: Apache-2.0
"""Reads the options that a program's ``--help`` lists: of cobra, urfave/cli and docopt."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(r"^ {1,8}(?:-(?P<short>\w), )?--(?P<name>[\w-]+)(?P<rest>.*)$")
_GO_CLI = re.compile(r"^ {3}(?:-(?P<first>\w), )?--(?P<name>[\w-]+)(?P<rest>.*)$")
_ALIAS = re.compile(r", --?(?P<alias>[\w-]+)")
_LISTS = ("strings", "ulimit")
"""The types of pflag that split a value at commas: Podman's and Buildah's."""


class Option(NamedTuple):
    """An option of a command."""

    kind: str
    """boolean, value, list (a value that is split at commas) or optional (a value after =)."""
    aliases: tuple[str, ...] = ()


def options(text: str) -> dict[str, Option]:
    """The options in the text of ``--help``, by their longest name."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        rest = match["rest"]
        aliases = [match["short"]] if match["short"] else []
        while alias := _ALIAS.match(rest):  # urfave/cli: --tty, -t
            aliases.append(alias["alias"])
            rest = rest[alias.end() :]
        found[match["name"]] = Option(_kind(rest), tuple(aliases))
    return found


def _kind(rest: str) -> str:
    """The kind by what follows the name: two blanks and the description, or a type before it."""
    if re.match(r"\[=|\s?\w+\[=", rest):
        return "optional"
    kind = re.match(r"[ =](?P<type>[^\s].*?)(?: {2,}|\t|$)", rest)
    if kind is None:
        return "boolean"
    return "list" if kind["type"].partition("[")[0] in _LISTS else "value"
