# SPDX-License-Identifier: Apache-2.0
"""``docs/troubleshooting.md`` is made from the tests of users' pains."""

from __future__ import annotations

import pytest

from cdi_gen.cli import COMMANDS
from cdi_gen.findings import explanations
from tests.host.looking import REPOSITORY
from tools.troubleshooting import page, pains


def test_the_page_is_made_from_the_tests(request: pytest.FixtureRequest) -> None:
    """``make golden`` writes it."""
    path = REPOSITORY / "docs/troubleshooting.md"
    if request.config.getoption("--update-golden"):
        path.write_text(page(), encoding="utf-8")
    is_current = path.read_text(encoding="utf-8") == page()
    assert is_current, "docs/troubleshooting.md is not made from tests/pains; run: make golden"


def test_every_pain_of_the_list_has_a_test() -> None:
    assert {pain.number for pain in pains()} == set(range(1, 59))


def test_each_pain_has_a_command_and_a_code() -> None:
    for pain in pains():
        program, command = pain.command.split()[:2]
        assert (program, command in COMMANDS) == ("cdi-gen", True), pain
        assert pain.codes, pain
        assert set(pain.codes) <= explanations().keys(), pain
