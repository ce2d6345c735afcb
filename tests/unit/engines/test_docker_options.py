# SPDX-License-Identifier: Apache-2.0
"""dockerd does not start if an option and daemon.json say the same (nvidia-docker#1002, #761)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdi_gen.engines import docker
from cdi_gen.engines.plan import Plan, Request, Runtime
from cdi_gen.errors import CdiGenError

from .machine import DOCKER_FILE, Told, carried_out

DEFAULT = Runtime("nvidia", "/usr/bin/nvidia-container-runtime", default=True)
UNIT = "/etc/systemd/system/docker.service.d/override.conf"
EXEC = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --host=fd:// {}\n"


def plan(text: str, version: str = "27.5.1", running: tuple[str, ...] = (), **wishes: Any) -> Plan:
    machine = Told(
        {"dockerd": version},
        {UNIT: text, DOCKER_FILE: "{}"},
        running={"/usr/bin/dockerd": running} if running else None,
    )
    return docker.plan(Request(**wishes), machine)


@pytest.mark.parametrize(
    ("option", "wishes"),
    [
        ("--default-runtime=runc", {"runtime": DEFAULT}),
        ("--default-runtime runc", {"runtime": DEFAULT}),
        ("\\\n  --feature cdi=true", {}),
        ('"--feature" containerd-snapshotter=true', {}),
    ],
)
def test_what_a_unit_says_is_not_said_twice(option: str, wishes: dict[str, Any]) -> None:
    with pytest.raises(CdiGenError, match="dockerd does not start if") as told:
        plan(EXEC.format(option), **wishes)
    assert UNIT in told.value.message
    plan(EXEC.format(option), revert=True)


def test_nor_what_the_process_says_that_runs() -> None:
    """Amazon's unit takes options from the environment."""
    words = ("dockerd", "--default-runtime", "runc")
    with pytest.raises(
        CdiGenError, match="the running /usr/bin/dockerd has --default-runtime runc"
    ):
        plan(EXEC.format("$OPTIONS $DOCKER_ADD_RUNTIMES"), running=words, runtime=DEFAULT)


@pytest.mark.parametrize(
    ("option", "version", "wishes"),
    [
        ("--add-runtime=nvidia=/usr/bin/nvidia-container-runtime", "27.5.1", {"runtime": DEFAULT}),
        ("--default-runtime=runc", "27.5.1", {"runtime": DEFAULT._replace(default=False)}),
        ("--feature cdi=true", "28.5.2", {}),
        ("--cdi-spec-dir /opt/cdi", "27.5.1", {}),
        ("'unbalanced --x", "27.5.1", {}),
    ],
)
def test_what_is_not_in_the_way(option: str, version: str, wishes: dict[str, Any]) -> None:
    found = plan(EXEC.format(option), version, **wishes)
    assert (DOCKER_FILE in carried_out(found, {DOCKER_FILE: "{}"})) == (version != "28.5.2")


def test_what_a_drop_in_takes_back_does_not_count() -> None:
    unit = "[Service]\nExecStart=/usr/bin/dockerd --feature cdi=true\n"
    files = {"/lib/systemd/system/docker.service": unit, DOCKER_FILE: "{}"}
    with pytest.raises(CdiGenError, match="--feature cdi=true"):
        docker.plan(Request(), Told({"dockerd": "27.5.1"}, files))
    files[UNIT] = EXEC.format("")
    docker.plan(Request(), Told({"dockerd": "27.5.1"}, files))


def test_another_file_is_another_daemons() -> None:
    machine = Told({"dockerd": "27.5.1"}, {UNIT: EXEC.format("--feature cdi=true")})
    found = docker.plan(Request(configuration="/opt/d.json"), machine)
    assert json.loads(carried_out(found, {})["/opt/d.json"]) == {"features": {"cdi": True}}
