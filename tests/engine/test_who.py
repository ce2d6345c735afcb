# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen who` beside real engines: Podman, rootless too, Docker, containerd, runc and crun."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import cdi_gen
from tests.engine import beside_engines
from tests.engine.beside_engines import IMAGE, INVENTORY, PATIENCE, Machine
from tests.lab import debian
from tests.lab.engines import Lab
from tests.lab.podman import Podman


@pytest.fixture(scope="module", params=["v1", "v2"])
def machine(
    request: pytest.FixtureRequest, lab_of: Callable[[str], Lab], image_archives: dict[str, Path]
) -> Iterator[Machine]:
    lab = lab_of(beside_engines.SUITE)
    with beside_engines.enter(lab, image_archives["all"], request.param) as machine:
        yield machine


IN_ONE = pytest.mark.parametrize("machine", ["v2"], indirect=True)
"""For what does not hang on the version of control groups."""


def only(document: dict[str, Any], container: str) -> dict[str, Any]:
    (found,) = [entry for entry in document["containers"] if entry["id"] == container]
    return dict(found)


@pytest.mark.parametrize(
    ("runtime", "user"), [("crun", 0), ("runc", 0), ("crun", debian.USER)], ids=str
)
def test_podman(machine: Machine, runtime: str, user: int) -> None:
    name = f"{runtime}-{user}"
    container = machine.podman(runtime, user, name, "--device", "nvidia.com/gpu=2")
    entry = only(machine.who(), container)
    assert (entry["engine"], entry["name"]) == ("podman", name)
    assert entry["image"] == f"{IMAGE}:latest"
    (device,) = entry["devices"]
    assert (device["index"], device["model"]) == ("2", "NVIDIA H100 80GB HBM3")
    # A user's containers have no group of their own here.
    assert device["access"] in ({"unrestricted", "allowed"} if user else {"allowed"})
    assert not entry["privileged"]
    assert entry["unseen"] == []
    if user:
        # The user sees the own container, and is told that there is more.
        document = machine.who(user)
        assert [found["id"] for found in document["containers"]] == [container]
        assert document["exit"] == 4
        assert "sudo cdi-gen who" in document["stderr"]
    Podman(machine.inside, runtime=runtime, user=user)("rm", "-f", "-t", "0", name)
    assert container not in {entry["id"] for entry in machine.who()["containers"]}


def test_privileged_container_has_all(machine: Machine) -> None:
    container = machine.podman("crun", 0, "privileged", "--privileged")
    entry = only(machine.who(), container)
    assert entry["all"]
    assert [device["index"] for device in entry["devices"]] == ["0", "1", "2", "3"]


@IN_ONE
def test_process_that_has_the_node_open_is_a_user(machine: Machine) -> None:
    """/dev/null under the name of a GPU's node cannot be opened as the GPU; a GPU without a driver
    cannot be opened at all. So the kernel's full device stands for GPU 3 here."""
    inventory = json.loads(INVENTORY.read_text())
    inventory["gpus"][3]["nodes"][0] |= {"major": 1, "minor": 7}
    machine.inside.write("/tmp/inventory.json", json.dumps(inventory))
    machine.inside.run(["mknod", "/dev/nvidia-full", "c", "1", "7"])
    device = "/dev/nvidia-full:/dev/nvidia3"
    container = machine.podman("crun", 0, "user", "--device", device)
    podman = Podman(machine.inside)
    podman("exec", "-d", "user", "sh", "-c", "exec 3<>/dev/nvidia3; sleep 1000")
    command = ["cdi-gen", "who", "-o", "json", "--inventory", "/tmp/inventory.json"]
    deadline = time.monotonic() + PATIENCE
    while True:
        entry = only(json.loads(machine.inside.run(command).stdout), container)
        if entry["uses"]:
            break
        assert time.monotonic() < deadline, entry
        time.sleep(0.1)
    (use,) = entry["uses"]
    assert (use["name"], use["device"], use["memory"]) == ("sleep", "3", None)
    assert use["pid"] in entry["pids"]
    wide = machine.inside.run(["cdi-gen", "who", "-o", "wide", *command[4:]]).stdout
    assert f"{use['pid']} sleep on 3" in wide


@IN_ONE
def test_docker(machine: Machine) -> None:
    inside = machine.inside
    inside.write("/etc/docker/daemon.json", '{"features": {"cdi": true}}')
    options = ("--bridge=none", "--iptables=false", "--ip6tables=false")
    inside.start(["dockerd", *options], log="/var/log/dockerd.log")
    deadline = time.monotonic() + PATIENCE
    while inside.run(["test", "-S", "/run/docker.sock"], check=False).returncode:
        assert time.monotonic() < deadline, inside.read("/var/log/dockerd.log")
        time.sleep(0.1)
    machine.docker("POST", "/images/load", "/images.tar", "application/x-tar")
    request = {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=1"]}
    host = {"NetworkMode": "none", "DeviceRequests": [request]}
    body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": host}
    answer = machine.docker("POST", "/containers/create?name=web", json.dumps(body))
    container = json.loads(answer)["Id"]
    machine.docker("POST", f"/containers/{container}/start", "{}")
    entry = only(machine.who(), container)
    assert (entry["engine"], entry["name"], entry["image"]) == ("docker", "web", IMAGE)
    assert [device["index"] for device in entry["devices"]] == ["1"]
    assert entry["bundle"].startswith("/run/docker/containerd/")


@IN_ONE
def test_containerd(machine: Machine) -> None:
    inside = machine.inside
    inside.start(["containerd"], log="/var/log/containerd.log")
    deadline = time.monotonic() + PATIENCE
    while inside.run(["ctr", "version"], check=False).returncode:
        assert time.monotonic() < deadline, inside.read("/var/log/containerd.log")
        time.sleep(0.1)
    inside.run(["ctr", "image", "import", "--snapshotter", "native", "/images.tar"])
    # Without a share of the CPU: the lab's groups of version 2 have no such controller.
    options = ["--snapshotter", "native", "--device", "/dev/nvidia0", "--cpu-shares", "0"]
    inside.run(["ctr", "run", "-d", *options, f"{IMAGE}:latest", "c1", "sleep", "1000"])
    entry = only(machine.who(), "c1")
    assert (entry["engine"], entry["pod"]) == ("containerd", None)
    assert entry["bundle"].endswith("/default/c1")
    assert [device["index"] for device in entry["devices"]] == ["0"]


@IN_ONE
def test_containers_in_a_container(machine: Machine) -> None:
    """Seen from outside the lab, its containers are containers in a container."""
    container = machine.podman("runc", 0, "inner", "--device", "nvidia.com/gpu=3")
    outside = cdi_gen("who", "-o", "json", "--inventory", str(INVENTORY))
    entry = only(json.loads(outside.out), container)
    assert (entry["engine"], entry["name"]) == ("podman", "inner")
    assert [device["index"] for device in entry["devices"]] == ["3"]
    assert entry["within"] is not None
