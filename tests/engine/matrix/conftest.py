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
from tests.engine.matrix.place import Place
from tests.engine.matrix.report import Results
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.hosts import FakeHost
from tests.host import looking
from tests.lab import go
from tests.lab.cache import LabUnavailableError
from tests.lab.engines import Lab

LINKS = ("nvidia-cdi-hook", "nvidia-container-runtime", "nvidia-container-runtime-hook")


@pytest.fixture(scope="session")
def crictl() -> Path | None:
    try:
        return go.program("sigs.k8s.io/cri-tools", "v1.34.0", "cmd/crictl")
    except LabUnavailableError:
        return None


@pytest.fixture(scope="session")
def dockerd() -> Path:
    """Built in minutes, once: asked for by those who want it only."""
    module, version = "github.com/moby/moby/v2", "v2.0.0-beta.24"
    # Of 2026-09-15, twelve days after 29.8.0: a release's module is tagged apart from it.
    says = {"dockerversion.Version": f"29.8.0-moby-{version}"}
    try:
        return go.program(module, version, "cmd/dockerd", variables=says)
    except LabUnavailableError as error:
        pytest.skip(f"no newer dockerd: {error}")


@pytest.fixture(scope="session")
def gpu_host(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """A host with eight GPUs, and all that cdi-gen installs for engines."""
    try:
        fake = machines.prepare("550-8gpu", tmp_path_factory.mktemp("matrix") / "host")
    except DriverRootUnavailableError as error:
        pytest.skip(f"no fake host: {error}")
    links = [f"--{name}" for name in LINKS]
    looking.run("hook", "install", "--prefix", "/usr", *links, root=str(fake.root))
    return fake


@pytest.fixture(scope="session")
def place_of(
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    gpu_host: FakeHost,
    crictl: Path | None,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[str, str], Place]]:
    """Give the host, entered with the engines of a root, in a view of control groups."""
    with contextlib.ExitStack() as entered:

        @functools.cache
        def place(root: str, groups: str) -> Place:
            suite = root.partition("-")[0]
            newer = [request.getfixturevalue("dockerd")] if suite == MOBY else []
            door = machines.enter(
                lab_of("sid-engines" if suite == MOBY else root),
                gpu_host,
                image_archives["all"],
                shown=places.shown(image_archives, crictl, *newer),
                cgroup=groups,
            )
            return Place(entered.enter_context(door), suite, groups)

        yield place


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    """What is found of the whole matrix; written down at the end with ``--update-engines``."""
    found = Results(report.load())
    yield found
    if request.config.getoption("--update-engines"):
        found.write()
