# SPDX-License-Identifier: Apache-2.0
"""Which engine of the host a command is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdi_gen.engines import docker
from cdi_gen.errors import UsageError
from cdi_gen.why.mechanism import asked_engine
from cdi_gen.why.mechanism.host_engines import HostEngines
from cdi_gen.why.user import ROOT
from tests.unit.why.asking import engine, request

ROOTFUL, ROOTLESS = engine("podman", "5.4.2"), engine("podman", "5.4.2", rootless=True)
DOCKERS = [engine("docker", "28.5.2"), engine("docker", "28.5.2", rootless=True)]


@pytest.mark.parametrize(
    ("command", "is_root", "rootless"),
    [
        ("podman run img", True, False),
        ("podman run img", False, True),
        ("sudo podman run img", False, False),
        ("sudo -u alice podman run img", True, True),
    ],
)
def test_podman_of_the_user_who_asks(command: str, is_root: bool, rootless: bool) -> None:
    status, findings = asked_engine.choose(request(command), [ROOTFUL, ROOTLESS], is_root=is_root)
    assert status is not None
    assert (status.rootless, findings) == (rootless, ())


@pytest.mark.parametrize(
    ("host", "rootless"),
    [("", False), ("unix:///var/run/docker.sock", False), ("unix:///run/user/1000/d.sock", True)],
)
def test_docker_of_the_endpoint(host: str, rootless: bool) -> None:
    found = request("docker run img", {"DOCKER_HOST": host} if host else {})
    status, _ = asked_engine.choose(found, DOCKERS, is_root=False)
    assert status is not None
    assert status.rootless is rootless


def test_docker_that_asks_podman() -> None:
    found = request("docker run img", {"DOCKER_HOST": "unix:///run/podman/podman.sock"})
    assert asked_engine.names_of(found) == ("podman",)


def test_engine_that_the_command_is_not_for() -> None:
    engines = HostEngines(ROOT, {}, named=("podman@5.4.2",))
    with pytest.raises(UsageError):
        engines.facts(request("docker run img"))


def test_docker_that_is_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package podman-docker; without it the engine is only missing."""
    monkeypatch.setattr(docker, "statuses", lambda _: [])
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho podman version 5.4.2\n")
    program.chmod(0o755)
    ((facts, (finding,)),) = HostEngines(ROOT, {"PATH": str(tmp_path)}).facts(
        request("docker run --gpus all img")
    )
    assert facts is None
    assert finding.fix == "cdi-gen why podman run --gpus all img"
