# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen why COMMAND`` and ``cdi-gen why FILE``: text, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.program import Result, cdi_gen
from tests.fakehost import hosts
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.hosts import FakeHost
from tests.host import looking

DEVICE = "--device nvidia.com/gpu=0"
PODMAN = ("podman", "run", "--rm", *DEVICE.split(), "img", "nvidia-smi", "-L")


pytestmark = pytest.mark.host


class Asked(NamedTuple):
    """A fake host with a spec, and how to ask there."""

    fake: FakeHost

    def why(self, *words: str, engine: str = "podman@5.4.2") -> Result:
        host = ("--host-root", str(self.fake.root), "--user", "root")
        return cdi_gen("why", *host, "--engine", engine, *words)

    def answer(self, *words: str, engine: str = "podman@5.4.2") -> dict[str, Any]:
        (found,) = json.loads(self.why("-o", "json", *words, engine=engine).out)["answers"]
        result: dict[str, Any] = found
        return result


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """One host for all tests, which only read it."""
    try:
        fake = hosts.build("550-1gpu", tmp_path_factory.mktemp("why") / "550-1gpu")
    except DriverRootUnavailableError as error:
        pytest.skip(f"no fake host: {error}")
    spec = fake.root / "etc/cdi/nvidia.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    looking.run(
        *("generate", "--hooks=none", "-o", str(spec)),
        host_root=str(fake.root),
        driver_root=looking.driver_root_of(fake),
    )
    return Asked(fake)


def test_command_that_works(asked: Asked) -> None:
    found = asked.why(*PODMAN)
    assert found.code == 0, found
    lines = found.out.splitlines()
    assert lines[:3] == [
        f"podman run --rm {DEVICE} img nvidia-smi -L",
        "✓ podman 5.4.2: CDI, because the command names CDI devices",
        "    devices: nvidia.com/gpu=0",
    ]
    assert lines[3].startswith("    injected: ")
    assert "/dev/nvidia0" in lines[3]
    assert found.err == ""


def test_numbers_are_those_of_the_spec(asked: Asked) -> None:
    spec = json.loads((asked.fake.root / "etc/cdi/nvidia.json").read_text())
    (device,) = (device for device in spec["devices"] if device["name"] == "0")
    edits = [spec["containerEdits"], device["containerEdits"]]
    injection = asked.answer(*PODMAN)["injection"]
    nodes = {node["path"] for edit in edits for node in edit.get("deviceNodes", ())}
    assert set(injection["nodes"]) == nodes
    mounts = {mount["containerPath"] for edit in edits for mount in edit.get("mounts", ())}
    assert injection["mounts"] == len(mounts)


def test_command_that_fails(asked: Asked) -> None:
    found = asked.why("podman", "run", "--gpus", "all", "img", engine="podman@4.3.1")
    assert found.code == 1
    assert found.out == (
        "podman run --gpus all img\n"
        "✗ podman 4.3.1: nothing, because the command names no CDI device that this Podman takes\n"
        "    cause: podman 4.3.1 ignores --gpus without a message (5.0 and later take it for "
        "--device nvidia.com/gpu=NAME) [CDG-Y106]\n"
        "    works here:\n"
        "      podman run --device nvidia.com/gpu=all img\n"
    )


def test_device_that_the_engine_cannot_resolve(asked: Asked) -> None:
    answer = asked.answer("podman", "run", "--device", "nvidia.com/gpu=7", "img")
    assert (answer["outcome"], answer["mechanism"], answer["injection"]) == ("fails", "cdi", None)
    assert [lookup["outcome"] for lookup in answer["lookups"]] == ["unresolved"]


def test_engines_of_the_command_line_answer_each(asked: Asked) -> None:
    host = ("--host-root", str(asked.fake.root), "--user", "root", "-o", "json")
    engines = ("--engine", "podman@4.3.1", "--engine", "podman@5.8.0")
    found = cdi_gen("why", *host, *engines, "podman", "run", "--gpus", "all", "img")
    answers = json.loads(found.out)["answers"]
    assert [(each["version"], each["outcome"]) for each in answers] == [
        ("4.3.1", "fails"),
        ("5.8.0", "works"),
    ]


def test_daemon_on_another_host_is_not_seen(asked: Asked) -> None:
    host = ("--host-root", str(asked.fake.root), "--user", "root")
    found = cdi_gen("why", *host, "DOCKER_HOST=ssh://far", "docker", "run", "--gpus", "all", "img")
    assert found.code == 4
    assert "[CDG-Y117]" in found.out


def test_engine_that_the_command_is_not_for(asked: Asked) -> None:
    found = asked.why("docker", "run", "img")
    assert found.code == 2
    assert "the command is one of docker" in found.err


def test_command_that_starts_no_container(asked: Asked) -> None:
    found = asked.why("podman", "ps")
    assert found.code == 2
    assert "[CDG-Y123]" in found.err


def test_hostile_file_is_printed_in_lines_of_its_own(asked: Asked, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text('services: {"s\\e[31m\\nroot": {image: "i\\e]0;x", gpus: all}}')
    found = asked.why(str(path), engine="docker@28.5.2")
    assert found.code == 1
    assert "\x1b" not in found.out
    assert "service s\\x1b[31m\\nroot" in found.out


def test_yaml_that_multiplies_is_read_in_bounds(asked: Asked, tmp_path: Path) -> None:
    lines = ["a0: &a0 {<<: {x: 1}}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: *a{n - 1}}}" for n in range(1, 60)]
    path = tmp_path / "compose.yaml"
    path.write_text("\n".join([*lines, "services: {s: {<<: *a59, gpus: all}}"]))
    found = asked.why(str(path), engine="docker@28.5.2")
    assert found.code == 1
    assert "service s" in found.out
