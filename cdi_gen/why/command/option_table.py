# SPDX-License-Identifier: Apache-2.0
"""Reads ``specs/cdi_specs/command_flags.json``: the options of commands that start containers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import cdi_specs
from cdi_base.versions import at_least

BOOLEAN, VALUE, LIST, OPTIONAL = KINDS = ("boolean", "value", "list", "optional")
"""Without a value, with one, with one that is split at commas, with one only after ``=``."""


class OptionTable(NamedTuple):
    """The options of a command."""

    kinds: Mapping[str, str]
    """The kind by the long name."""
    names: Mapping[str, str]
    """The long name by any name, without dashes."""
    since: Mapping[str, str]
    """The first version in `versions` that lists the option, of options that older ones lack."""
    versions: tuple[str, ...]

    def is_missing_in(self, name: str, version: str | None) -> bool:
        """Whether a version is known not to have an option."""
        since = self.since.get(name)
        if since is None or version is None:
            return False
        last_without = self.versions[self.versions.index(since) - 1]
        return at_least(last_without, version, unknown=False)


def has_program(program: str) -> bool:
    """Whether the table has the commands of a program."""
    return program in _programs()


def has_command(program: str, command: str) -> bool:
    """Whether the table has a command of a program."""
    return has_program(program) and command in _programs()[program]["commands"]


@cache
def table(program: str, command: str = "") -> OptionTable:
    """The options of a command; those before the command if the command is empty."""
    entry = _programs()[program]
    listed = entry["commands"][command]
    hidden = entry.get("hidden", {}).get("commands", {}).get(command, {})
    kinds: dict[str, str] = {}
    names: dict[str, str] = {}
    for options in (hidden, listed):
        for kind in KINDS:
            for entry_of_option in options.get(kind, ()):
                name, *aliases = entry_of_option.split("|")
                kinds[name] = kind
                names |= dict.fromkeys((name, *aliases), name)
    return OptionTable(kinds, names, listed.get("since", {}), tuple(entry["versions"]))


def joined(*tables: OptionTable) -> OptionTable:
    """Several tables as one; the first has priority."""
    result = tables[0]
    for other in tables[1:]:
        result = OptionTable(
            {**other.kinds, **result.kinds},
            {**other.names, **result.names},
            {**other.since, **result.since},
            result.versions,
        )
    return result


@cache
def _programs() -> dict[str, Any]:
    programs: dict[str, Any] = json.loads(cdi_specs.read_text("command_flags.json"))["programs"]
    return programs
