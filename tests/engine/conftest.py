# SPDX-License-Identifier: Apache-2.0
"""Entered hosts for tests of specs: each once a session, with each engine of its suite."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.engine import machine as machines
from tests.engine.machine import Machine
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.hosts import FakeHost
from tests.lab import debian
from tests.lab.engines import Lab
from tests.lab.podman import Podman

MachineOf = Callable[[str, str], Machine]


@pytest.fixture(scope="session")
def machine_of(
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    zoo_archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MachineOf]:
    """Give a named fake host, entered with the engines of a suite."""
    folder = tmp_path_factory.mktemp("machines")
    zoo = {f"/zoo/{name}.tar": archive for name, archive in zoo_archives.items()}

    @functools.cache
    def prepared(name: str) -> FakeHost:
        try:
            return machines.prepare(name, folder / name)
        except DriverRootUnavailableError as error:
            pytest.skip(f"no fake host {name}: {error}")

    with contextlib.ExitStack() as entered:

        @functools.cache
        def get(suite: str, name: str) -> Machine:
            place = machines.enter(lab_of(suite), prepared(name), image_archives["all"], shown=zoo)
            return entered.enter_context(place)

        yield get


class Engine(NamedTuple):
    """An OCI runtime under a suite's Podman (bookworm: 4.3, trixie: 5.4), and who runs it."""

    suite: str
    runtime: str
    user: int

    def __str__(self) -> str:
        return f"{self.suite}-{self.runtime}{'-rootless' if self.user else ''}"


ENGINES = [
    Engine(suite, runtime, user)
    for suite in ("bookworm", "trixie")
    for user in (0, debian.USER)
    for runtime in ("crun", "runc")
]


TWO_ENGINES = pytest.mark.parametrize(
    "engine",
    [Engine("bookworm", "runc", 0), Engine("trixie", "crun", debian.USER)],
    indirect=True,
    ids=str,
)
"""For what hangs on the spec's content more than on the engine: one of each kind."""


@pytest.fixture(params=ENGINES, ids=str)
def engine(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.param
    return engine


@pytest.fixture
def machine(engine: Engine, machine_of: MachineOf) -> Machine:
    """A host with eight GPUs, its files where Ubuntu's packages and NVIDIA's installer put them."""
    return machine_of(engine.suite, "550-8gpu")


@pytest.fixture
def podman(engine: Engine, machine: Machine) -> Podman:
    return machine.podman(engine.runtime, engine.user)
