# SPDX-License-Identifier: Apache-2.0
"""``daemon.json``, the only configuration file of Docker: its keys and its path."""

from __future__ import annotations

import json
from typing import Any

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.engines import facts
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Runtime
from cdi_gen.engines.text import json_parser, json_text
from cdi_gen.paths import join

CDI = ("features", "cdi")
DIRECTORIES = ("cdi-spec-dirs",)
RUNTIMES = ("runtimes",)
DEFAULT = ("default-runtime",)


def default_path(machine: Machine, *, rootless: bool) -> str:
    """The file that a daemon reads by default."""
    docker = facts.docker()
    users = join(machine.config_home, docker.user_configuration)
    return users if rootless else docker.configuration


def user_directories(machine: Machine) -> tuple[str, ...]:
    """All spec directories of a user's daemon: those of the machine, and the user's own."""
    own = (machine.config_home, machine.runtime_directory)
    return (*SPEC_DIRECTORIES, *(join(directory, "cdi") for directory in own))


def parsed(text: str | None) -> dict[str, Any]:
    """The members of the file; none where the file does not exist or is empty.

    Raises:
        JSONTextError: the file is not a JSON object.
    """
    return json_parser.value(text) if text and text.strip() else {}


def parsed_or_empty(text: str | None) -> dict[str, Any]:
    """The members of the file; none if it cannot be read, which is reported when it is edited."""
    try:
        return parsed(text)
    except json_parser.JSONTextError:
        return {}


def table(members: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that is an object; an empty one where it is missing or of another type."""
    value = members.get(name)
    return value if isinstance(value, dict) else {}


def edited(
    text: str | None, *, cdi: bool, directories: tuple[str, ...], runtime: Runtime | None
) -> str | None:
    """The file with the requested members; every other byte is unchanged.

    Args:
        text: of the file; None if it does not exist.
        cdi: whether to set ``features.cdi`` to true; otherwise it is not changed.
        directories: ``cdi-spec-dirs``; if there are none, it is not changed.
        runtime: the runtime to register.

    Raises:
        JSONTextError: the file is not a JSON object, or a value on the way to a key is not.
    """
    new_text = text if text is not None and text.strip() else "{}"
    json_parser.parse(new_text)
    if cdi:
        new_text = json_text.with_member(new_text, CDI, "true")
    if directories:
        new_text = json_text.with_member(new_text, DIRECTORIES, json.dumps([*directories]))
    if runtime:
        entry = json.dumps({"path": runtime.path, "args": []})
        new_text = json_text.with_member(new_text, (*RUNTIMES, runtime.name), entry)
        if runtime.default:
            new_text = json_text.with_member(new_text, DEFAULT, json.dumps(runtime.name))
    if new_text == "{}":
        return text
    return new_text if text else new_text + "\n"
