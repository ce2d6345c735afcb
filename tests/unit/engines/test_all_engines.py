# SPDX-License-Identifier: Apache-2.0
"""All engines are asked at once; the error of one is the caller's."""

from __future__ import annotations

import pytest

from cdi_gen import engines
from cdi_gen.engines.machine import Machine
from cdi_gen.errors import CdiGenError
from cdi_gen.why import readers


class Asked(Machine):
    """A machine without programs that notes which are searched."""

    def __init__(self) -> None:
        super().__init__({}, uid=0)
        self.names: set[str] = set()

    def program(self, name: str) -> str | None:
        self.names.add(name)
        return None


def test_only_the_named_engines_are_asked() -> None:
    machine = Asked()
    assert engines.statuses(machine, ("buildah",)) == []
    assert "buildah" in machine.names
    assert "dockerd" not in machine.names


def test_an_error_of_one_engine_is_raised() -> None:
    class Broken(Asked):
        def program(self, name: str) -> str | None:
            raise CdiGenError(f"{name} is broken", code="CDG-X001")

    with pytest.raises(CdiGenError, match="is broken"):
        engines.statuses(Broken())


def test_names_without_a_version() -> None:
    assert readers.names_of([]) == engines.NAMES
    assert readers.names_of(["podman", "no such"]) == ("podman",)
