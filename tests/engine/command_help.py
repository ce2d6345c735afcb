# SPDX-License-Identifier: Apache-2.0
"""Reads the options that a program's ``--help`` lists: of cobra, urfave/cli and docopt."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(r"^ {1,8}(?:-(?P<short>\w), )?--(?P<name>[\w-]+)(?P<rest>.*)$")
_ALIAS = re.compile(r", --?([\w-]+)")
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
        # urfave/cli repeats the type: --address value, -a value
        written = re.split(r" {2,}|\t", match["rest"], maxsplit=1)[0]
        aliases = [match["short"]] if match["short"] else []
        aliases += _ALIAS.findall(written)
        found[match["name"]] = Option(_kind(written.partition(", -")[0]), tuple(aliases))
    return found


def _kind(written: str) -> str:
    """The kind by what follows the name up to the description: the type of a value, if any."""
    if "[=" in written:
        return "optional"
    if not written.strip():
        return "boolean"
    return "list" if written.split(maxsplit=1)[0].lstrip("=") in _LISTS else "value"
