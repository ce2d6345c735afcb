# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen why --container` about containers of real engines, whole and broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import beside_engines
from tests.engine.beside_engines import SPEC, Machine
from tests.lab.engines import Lab
from tests.lab.podman import Podman

DRIVER = "/opt/driver"
VERSION = "550.163.01"
"""Of the module in the inventory."""


@pytest.fixture(scope="module")
def entered(lab_of: Callable[[str], Lab], image_archives: dict[str, Path]) -> Iterator[Machine]:
    lab = lab_of(beside_engines.SUITE)
    with beside_engines.enter(lab, image_archives["all"], "v2") as machine:
        machine.inside.run(["mkdir", "-p", DRIVER])
        yield machine


@pytest.fixture
def machine(entered: Machine) -> Iterator[Machine]:
    install(entered, VERSION)
    yield entered
    Podman(entered.inside)("rm", "-af", "-t", "0")


def install(machine: Machine, version: str) -> None:
    """Install a driver of two libraries, and write its spec, which mounts them as files."""
    folder = "/usr/lib/x86_64-linux-gnu"
    names = [f"libcuda.so.{version}", f"libnvidia-ml.so.{version}"]
    machine.inside.run(["sh", "-ec", f"rm -f {DRIVER}/*; cd {DRIVER}; touch {' '.join(names)}"])
    mounts = [
        {
            "hostPath": f"{DRIVER}/{name}",
            "containerPath": f"{folder}/{target}",
            "options": ["ro", "nosuid", "nodev", "rbind"],
        }
        for name in names
        for target in (name, name.replace(version, "1"))
    ]
    document: dict[str, Any] = json.loads(json.dumps(SPEC))
    document["containerEdits"]["mounts"] = mounts
    machine.inside.write("/etc/cdi/nvidia.json", json.dumps(document))


def codes(document: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in document["findings"]]


def test_whole_container(machine: Machine) -> None:
    container = machine.podman("crun", 0, "whole", "--device", "nvidia.com/gpu=1")
    document = machine.why("--container", "whole", code=0)
    for name in (container, container[:12]):
        assert machine.why("--container", name, code=0) == document
    assert (document["id"], document["name"]) == (container, "whole")
    assert codes(document) == []
    assert document["devices"] == ["nvidia.com/gpu=1"]
    assert {node["path"]: node["state"] for node in document["nodes"]} == {
        "/dev/nvidia1": "allowed",
        "/dev/nvidiactl": "allowed",
    }
    assert document["libraries"]["versions"] == [VERSION]
    assert document["moduleVersion"] == VERSION
    assert document["nvidiaSmi"] == "nvidia-smi: command not found"
    by_pid = machine.why("--container", str(document["pid"]), code=0)
    assert by_pid["id"] == container
    assert machine.why("--state", document["state"], code=0)["id"] == container
    assert machine.why("--bundle", document["bundle"], code=0)["id"] == container


def test_driver_is_updated_under_a_container(machine: Machine) -> None:
    machine.podman("crun", 0, "old", "--device", "nvidia.com/gpu=0")
    install(machine, "560.28.03")
    document = machine.why("--container", "old")
    assert codes(document) == ["CDG-Y221", "CDG-Y226"]
    assert f"libcuda.so.{VERSION}" in document["findings"][0]["message"]
    assert document["libraries"]["deleted"]
    # The fix: the container starts again, and Podman reads the spec again. The module of the
    # inventory is still the old one.
    assert document["findings"][0]["fix"].endswith("sudo podman restart old")
    Podman(machine.inside)("restart", "-t", "0", "old")
    document = machine.why("--container", "old")
    assert codes(document) == ["CDG-Y222"]
    assert "Driver/library version mismatch" in document["findings"][0]["message"]
    install(machine, VERSION)
    Podman(machine.inside)("restart", "-t", "0", "old")
    assert codes(machine.why("--container", "old", code=0)) == []


def test_ended_container_whose_files_are_gone(machine: Machine) -> None:
    machine.podman("crun", 0, "ended", "--device", "nvidia.com/gpu=0")
    podman = Podman(machine.inside)
    podman("stop", "-t", "0", "ended")
    assert codes(machine.why("--container", "ended", code=0)) == []
    install(machine, "560.28.03")
    document = machine.why("--container", "ended")
    assert document["pid"] is None
    assert codes(document) == ["CDG-Y227"]
    assert f"{DRIVER}/libcuda.so.{VERSION} and 3 more" in document["findings"][0]["message"]
    assert document["findings"][0]["fix"].endswith("sudo podman start ended")
    podman("start", "ended")
    assert codes(machine.why("--container", "ended")) == ["CDG-Y222"]


def test_nodes_without_libraries(machine: Machine) -> None:
    nodes = [f"--device=/dev/{name}" for name in ("nvidia0", "nvidiactl")]
    machine.podman("runc", 0, "bare", *nodes)
    document = machine.why("--container", "bare")
    assert codes(document) == ["CDG-Y223", "CDG-Y226"]
    assert "libcuda.so.1, libnvidia-ml.so.1" in document["findings"][0]["message"]


def test_node_as_a_volume(machine: Machine) -> None:
    machine.podman("crun", 0, "volume", "-v", "/dev/nvidia0:/dev/nvidia0")
    document = machine.why("--container", "volume")
    assert codes(document)[0] == "CDG-Y215"
    assert "--device nvidia.com/gpu=all" in document["findings"][0]["fix"]


def test_variable_alone(machine: Machine) -> None:
    """An image of CUDA has the variable; Podman does nothing with it."""
    machine.podman("crun", 0, "variable", "-e", "NVIDIA_VISIBLE_DEVICES=all")
    document = machine.why("--container", "variable")
    assert codes(document) == ["CDG-Y225"]
    assert document["findings"][0]["fix"].startswith("sudo podman run --device nvidia.com/gpu=all")


def test_node_removed_in_the_container(machine: Machine) -> None:
    machine.podman("crun", 0, "removed", "--device", "nvidia.com/gpu=2")
    podman = Podman(machine.inside)
    podman("exec", "removed", "rm", "/dev/nvidia2")
    document = machine.why("--container", "removed")
    assert codes(document) == ["CDG-Y211"]
    assert document["findings"][0]["fix"] == "sudo podman restart removed"
    podman("restart", "-t", "0", "removed")
    assert codes(machine.why("--container", "removed", code=0)) == []


def test_module_was_loaded_again(machine: Machine) -> None:
    device = ["--device", "nvidia.com/gpu=0"]
    machine.inside.run(["mknod", "/dev/nvidia-uvm", "c", "511", "0"])
    machine.podman("crun", 0, "uvm", *device, "--device", "/dev/nvidia-uvm")
    document = machine.why("--container", "uvm")
    assert codes(document) == ["CDG-Y212"]
    assert (
        "/dev/nvidia-uvm in the container is 511:0, and 510:0" in document["findings"][0]["message"]
    )


def test_loader_does_not_find_the_libraries(machine: Machine) -> None:
    """A runtime that runs no hooks: the libraries are mounted, and have no link."""
    text = machine.inside.read("/etc/cdi/nvidia.json")
    document = json.loads(text)
    mounts = document["containerEdits"]["mounts"]
    document["containerEdits"]["mounts"] = [
        mount for mount in mounts if not mount["containerPath"].endswith(".1")
    ]
    machine.inside.write("/etc/cdi/nvidia.json", json.dumps(document))
    machine.podman("crun", 0, "unlinked", "--device", "nvidia.com/gpu=0")
    answer = machine.why("--container", "unlinked")
    assert codes(answer) == ["CDG-Y224"]
    assert "libcuda.so.1, libnvidia-ml.so.1" in answer["findings"][0]["message"]
    machine.inside.write("/etc/cdi/nvidia.json", text)
    Podman(machine.inside)("restart", "-t", "0", "unlinked")
    assert codes(machine.why("--container", "unlinked", code=0)) == []


def test_unknown_container(machine: Machine) -> None:
    command = ["cdi-gen", "why", "--container", "no-such", "--inventory", "/opt/inventory.json"]
    ended = machine.inside.run(command, check=False)
    assert ended.returncode == 1
    assert "CDG-Y203" in ended.stderr
