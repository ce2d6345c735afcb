# SPDX-License-Identifier: Apache-2.0
"""The table of options is what the programs of three Debian releases list in their help."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import cdi_specs
from cdi_gen.engines.machine import printed_version
from tests.engine import command_flags
from tests.engine.command_flags import COMMANDS
from tests.lab.engines import Lab

SUITES = ("bookworm-engines", "trixie-engines", "sid-engines")

pytestmark = pytest.mark.engines


def helps_of(lab: Lab, program: str) -> tuple[str, dict[str, str]]:
    """The version of a program in a lab, and the help of each of its commands."""
    with lab.enter() as inside:
        option = "version" if program == "docker-compose" else "--version"
        version = printed_version(inside.run([program, option], check=False).stdout)
        helps = {}
        for command in COMMANDS[program]:
            printed = inside.run([program, *command.split(), "--help"], check=False)
            helps[command] = printed.stdout or printed.stderr
    return version or "?", helps


@pytest.mark.parametrize("program", COMMANDS)
def test_table_has_the_options_that_the_program_lists(
    program: str, lab_of: Callable[[str], Lab]
) -> None:
    table: dict[str, Any] = json.loads(cdi_specs.read_text("command_flags.json"))["programs"]
    of_versions = [helps_of(lab_of(suite), program) for suite in SUITES]
    assert table[program]["versions"] == [version for version, _ in of_versions]
    for command in COMMANDS[program]:
        helps = {version: texts[command] for version, texts in of_versions}
        assert table[program]["commands"][command] == command_flags.merged(helps), command
