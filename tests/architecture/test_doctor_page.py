# SPDX-License-Identifier: Apache-2.0
"""``docs/doctor.md`` lists the checks, and each module of a check is in the list of modules."""

from __future__ import annotations

import re

import pytest

from cdi_gen.doctor import checks
from cdi_gen.doctor.check import GROUPS
from tests.host.looking import REPOSITORY

TABLE = re.compile(r"(<!-- checks: [^\n]*-->\n).*(<!-- end of checks -->\n)", re.DOTALL)


def rendered() -> str:
    """The checks as a table in Markdown."""
    rows = [
        f"| {GROUPS[check.group]} (`{check.group}`) | `{check.name}` | {check.title} |"
        for check in checks.load()
    ]
    return "\n".join(["| group | check | all is well if |", "|---|---|---|", *rows, ""])


def test_the_page_lists_the_checks(request: pytest.FixtureRequest) -> None:
    """``make golden`` writes the table."""
    path = REPOSITORY / "docs/doctor.md"
    text = path.read_text(encoding="utf-8")
    expected, count = TABLE.subn(lambda match: match[1] + rendered() + match[2], text)
    assert count == 1
    if request.config.getoption("--update-golden"):
        path.write_text(expected, encoding="utf-8")
    else:
        assert text == expected, "the table of checks is not current; run: make golden"


def test_each_module_of_a_check_is_used() -> None:
    directory = REPOSITORY / "cdi_gen/doctor/checks"
    assert {path.stem for path in directory.glob("*.py")} - {"__init__"} == {*checks.MODULES}
