# SPDX-License-Identifier: Apache-2.0
"""The table ``specs/cdi_specs/command_flags.json`` as the programs of a lab print it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.engine.command_help import Option, options

COMMANDS = {
    "podman": ("", "run", "create", "build"),
    "buildah": ("", "build", "from", "run"),
    "docker": ("", "run", "create", "build", "service create", "stack deploy"),
    "ctr": ("", "run", "container create"),
    "docker-compose": ("", "up", "run", "create"),
}
"""The commands whose options are in the table."""

Helps = Mapping[str, str]
"""The text of ``--help`` by the version of the program, oldest first."""


def merged(helps: Helps) -> dict[str, Any]:
    """The options of a command in several versions; ``since`` and ``until`` say which differ."""
    by_version = {version: options(text) for version, text in helps.items()}
    versions = list(by_version)
    newest: dict[str, Option] = {}
    for listed in by_version.values():
        newest |= listed
    table: dict[str, Any] = {"boolean": [], "value": [], "list": [], "optional": []}
    since, until = {}, {}
    for name in sorted(newest):
        option = newest[name]
        table[option.kind].append("|".join((name, *option.aliases)))
        having = [version for version in versions if name in by_version[version]]
        if having[0] != versions[0]:
            since[name] = having[0]
        if having[-1] != versions[-1]:
            until[name] = versions[versions.index(having[-1]) + 1]
    table |= {"since": since, "until": until}
    return {key: value for key, value in table.items() if value}
