# SPDX-License-Identifier: Apache-2.0
"""A step of the hook is named in every place that the section "A new step" of hooks/README.md lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cdi_gen.generate.options import HOOKS
from cdi_hook.__main__ import HELP
from cdi_hook.steps import STEPS

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = [step.name for step in STEPS]


def test_generate_has_the_steps_in_the_order_in_which_they_run() -> None:
    assert [*HOOKS] == NAMES


def test_help_of_the_hook_describes_every_step() -> None:
    assert not [name for name in NAMES if f"\n  {name} " not in HELP]


@pytest.mark.parametrize("page", ["hooks/README.md", "docs/hooks.md"])
def test_table_has_a_row_for_every_step(page: str) -> None:
    """The step update-ldcache has a row for each loader."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z-]+)(?:, \w+)? \|", text, re.MULTILINE)
    assert [name for name in dict.fromkeys(rows) if name in NAMES] == NAMES
