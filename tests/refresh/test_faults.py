# SPDX-License-Identifier: Apache-2.0
"""A refresh that is killed, or whose calls fail, at every moment: old or new, never none, no litter."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.refresh.injection import Counter
from tests.refresh.machine import KilledError, Machine, Refreshed, in_fork

NEW: dict[str, Any] = {"modes": ("auto",), "capabilities": ("compute", "utility")}
"""Changes one spec and removes the other."""
STATE = {"refresh-result.json", "refresh.json", "refresh.lock"}
ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "EINTR")


class Scene:
    """A machine with the specs of an earlier refresh, restored for each run."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        assert machine.refresh().code == 0
        self.old = machine.contents()
        for name in ("specs", "state"):
            shutil.copytree(machine.folder / name, machine.folder / f"pristine-{name}")
        self.calls: list[str] = in_fork(self._calls)
        assert machine.refresh(**NEW) == (0, (), (), (), "")
        self.new = machine.contents()

    def _calls(self) -> list[str]:
        counter = Counter(None)
        refreshed = self.machine.refresh_here(**NEW)
        assert refreshed == (0, ("nvidia.json",), ("nvidia-cap.json",), (), "")
        return counter.names

    def again(self) -> None:
        for name in ("specs", "state"):
            shutil.rmtree(self.machine.folder / name)
            shutil.copytree(self.machine.folder / f"pristine-{name}", self.machine.folder / name)

    def inject(self, call: int, fault: str) -> Refreshed:
        self.again()

        def faulty() -> Refreshed:
            Counter(call, fault)
            return self.machine.refresh_here(**NEW)

        return in_fork(faulty)

    def spec_files(self) -> dict[str, bytes]:
        """The specs, each of which must be old or new; temporary files are not among them."""
        specs = {
            name: content
            for name, content in self.machine.contents().items()
            if not name.startswith(".")
        }
        assert specs["nvidia.json"] in {self.old["nvidia.json"], self.new["nvidia.json"]}
        others = {name: content for name, content in specs.items() if name != "nvidia.json"}
        assert others in ({}, {"nvidia-cap.json": self.old["nvidia-cap.json"]})
        return specs

    def finish(self) -> None:
        """The next refresh does all of it and leaves nothing else."""
        assert self.machine.refresh(**NEW).code == 0
        assert self.machine.contents() == self.new
        assert {path.name for path in self.machine.state.iterdir()} == STATE


@pytest.fixture
def scene(machine: Callable[[str], Machine]) -> Scene:
    return Scene(machine("550-flat"))


def test_killed_before_each_call_that_changes_something(scene: Scene) -> None:
    assert len(scene.calls) > 15, scene.calls
    ends = set()
    for call in range(len(scene.calls)):
        with pytest.raises(KilledError):
            scene.inject(call, "KILL")
        specs = scene.spec_files()
        ends.add(specs == scene.new)
        scene.finish()
    assert ends == {True, False}


@pytest.mark.parametrize("error", ERRORS)
def test_a_call_that_fails(scene: Scene, error: str) -> None:
    first = ERRORS.index(error) % 3
    failures = 0
    for call in range(first, len(scene.calls), 3):
        refreshed = scene.inject(call, error)
        specs = scene.spec_files()
        assert refreshed.code in {0, 1}, (scene.calls[call], refreshed)
        if refreshed.code == 0:
            assert specs == scene.new, scene.calls[call]
        else:
            assert refreshed.message, scene.calls[call]
            failures += 1
        if scene.calls[call] != "unlink":
            names = {*scene.machine.contents()} - {*specs}
            assert not names, scene.calls[call]
        scene.finish()
    assert failures


def test_killed_in_the_first_refresh_and_then_without_a_driver(
    machine: Callable[[str], Machine],
) -> None:
    """The specs of a killed refresh are known as ours, and are removed."""
    fresh = machine("550-flat")
    names = in_fork(lambda: (Counter(None), fresh.refresh_here())[0].names)
    specs = fresh.contents()
    for call in range(len(names)):
        shutil.rmtree(fresh.specs, ignore_errors=True)
        shutil.rmtree(fresh.state, ignore_errors=True)
        with pytest.raises(KilledError):
            in_fork(lambda call=call: (Counter(call, "KILL"), fresh.refresh_here())[1])  # type: ignore[misc]
        for name, content in fresh.contents().items():
            assert name.startswith(".") or content == specs[name]
        assert fresh.refresh(modes=("gds",)).code == 0
        assert fresh.contents() == {}, names[call]
