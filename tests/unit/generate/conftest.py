# SPDX-License-Identifier: Apache-2.0
"""The golden hosts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdi_gen.inventory import Inventory, json_form
from tests.host.looking import REPOSITORY


@pytest.fixture(scope="module")
def golden() -> Callable[[str], Inventory]:
    """Give the inventory of a golden host."""

    def load(name: str) -> Inventory:
        path = REPOSITORY / "specs/golden" / name / "inventory.json"
        return json_form.load(path.read_text(encoding="utf-8"))

    return load
