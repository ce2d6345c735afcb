# SPDX-License-Identifier: Apache-2.0
"""Entered hosts with a suite's engines, each once a session, and where results are written."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import machine as machines
from tests.engine.matrix import place as places
from tests.engine.matrix import report
from tests.engine.matrix.cells import MOBY
from tests.engine.matrix.homes import Home
from tests.engine.matrix.place import Place
from tests.engine.matrix.report import Results
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.hosts import FakeHost
from tests.host import looking
from tests.lab.cache import LabUnavailableError
from tests.lab.engines import Lab
from tests.lab.kubernetes import programs

PlaceOf = Callable[[str, str, Home], Place]

LINKS = ("nvidia-cdi-hook", "nvidia-container-runtime", "nvidia-container-runtime-hook")


@pytest.fixture(scope="session")
def crictl() -> Path | None:
    try:
        return programs.crictl()
    except LabUnavailableError:
        return None


@pytest.fixture(scope="session")
def host_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FakeHost]:
    """Give a fake host with all that cdi-gen installs for engines."""
    folder = tmp_path_factory.mktemp("matrix")

    @functools.cache
    def host(name: str) -> FakeHost:
        try:
            fake = machines.prepare(name, folder / name)
        except DriverRootUnavailableError as error:
            pytest.skip(f"no fake host {name}: {error}")
        links = [f"--{name}" for name in LINKS]
        looking.run("hook", "install", "--prefix", "/usr", *links, root=str(fake.root))
        return fake

    return host


@pytest.fixture(scope="session")
def place_of(
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    zoo_archives: dict[str, Path],
    host_of: Callable[[str], FakeHost],
    crictl: Path | None,
    request: pytest.FixtureRequest,
) -> Iterator[PlaceOf]:
    """Give a host, entered with the engines of a root, in a view of control groups."""
    with contextlib.ExitStack() as entered:

        @functools.cache
        def place(root: str, groups: str, home: Home) -> Place:
            suite = root.partition("-")[0]
            newer = [request.getfixturevalue("dockerd")] if suite == MOBY else []
            door = machines.enter(
                lab_of("sid-engines" if suite == MOBY else root),
                host_of(home.host),
                image_archives["all"],
                shown=places.shown(
                    zoo_archives[home.image], image_archives["pause"], crictl, *newer
                ),
                cgroup="v1" if groups == "v1" else "v2",
            )
            return Place(entered.enter_context(door), suite, groups, home)

        yield place


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    """What is found of the whole matrix; written down at the end with ``--update-engines``."""
    found = Results(report.load())
    yield found
    if request.config.getoption("--update-engines"):
        found.write()
