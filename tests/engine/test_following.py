# SPDX-License-Identifier: Apache-2.0
"""Containers that are followed, beside a fresh look: Podman, rootless too, and containerd."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import beside_engines
from tests.engine.beside_engines import IMAGE, PATIENCE, Machine
from tests.lab import debian
from tests.lab.engines import Lab
from tests.lab.podman import Podman

PROGRAM = [
    *("env", "PYTHONPATH=/opt/cdi-gen:/opt/cdi-gen/hooks:/opt/cdi-gen/specs"),
    *("PYTHONDONTWRITEBYTECODE=1", "python3", "-W", "ignore", "/opt/cdi-gen/tests/engine/follow.py"),
]  # fmt: skip
SETTLED = 100
AGES = {"v1": SETTLED, "v2": 0}
"""One of the two suffices for each version of control groups."""


@pytest.fixture(scope="module", params=[*AGES])
def machine(
    request: pytest.FixtureRequest, lab_of: Callable[[str], Lab], image_archives: dict[str, Path]
) -> Iterator[Machine]:
    lab = lab_of(beside_engines.SUITE)
    with beside_engines.enter(lab, image_archives["all"], request.param) as machine:
        yield machine


@pytest.fixture
def age(request: pytest.FixtureRequest) -> int:
    version: str = request.node.callspec.params["machine"]
    return AGES[version]


def followed(
    machine: Machine, age: int, steps: list[tuple[str, list[str]]]
) -> dict[str, dict[str, Any]]:
    """Do steps; return the containers by name after each."""
    plan = json.dumps({"steps": steps, "age": age})
    output = machine.inside.run(PROGRAM, stdin=plan, timeout=300).stdout
    states = {}
    open_files = set()
    for line in output.splitlines():
        title, is_equal, containers, descriptors = json.loads(line)
        assert is_equal, (title, containers)
        open_files.add(descriptors)
        states[title] = {container["name"]: container for container in containers}
    assert [*states] == [title for title, _ in steps]
    assert len(open_files) == 1
    return states


def prepare(machine: Machine, runtime: str, user: int = 0) -> None:
    """Load the image, and remove all containers of a user."""
    podman = Podman(machine.inside, runtime=runtime, user=user)
    podman("rm", "-f", "-a", "-t", "0")
    machine.podman(runtime, user, "first")
    podman("rm", "-f", "-a", "-t", "0")


def as_user(*argv: str) -> list[str]:
    user = str(debian.USER)
    home = ["HOME=/home/user", "USER=user", f"XDG_RUNTIME_DIR=/run/user/{user}"]
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "env", *home, *argv]


@pytest.mark.parametrize(
    ("runtime", "user"), [("crun", 0), ("runc", 0), ("crun", debian.USER)], ids=str
)
def test_podman(machine: Machine, runtime: str, user: int, age: int) -> None:
    prepare(machine, runtime, user)

    def podman(*argv: str) -> list[str]:
        command = ["podman", "--runtime", runtime, *argv]
        return as_user(*command) if user else command

    def run(name: str, number: int) -> list[str]:
        options = ["--name", name, "--device", f"nvidia.com/gpu={number}"]
        return podman("run", "-d", *options, IMAGE, "sleep", "1000")

    steps = [
        ("first", run("one", 1)),
        ("exec", podman("exec", "-d", "one", "sleep", "999")),
        ("second", run("two", 2)),
        *([] if user else [("pause", podman("pause", "one")), ("on", podman("unpause", "one"))]),
        ("restart", podman("restart", "-t", "0", "one")),
        ("rename", podman("rename", "two", "three")),
        ("kill", podman("kill", "one")),
        ("removed", podman("rm", "-f", "-t", "0", "three")),
    ]
    if age:  # a name is looked at again after a while
        steps = [step for step in steps if step[0] != "rename"]
        steps[-1] = ("removed", podman("rm", "-f", "-t", "0", "two"))
    states = followed(machine, age, steps)
    one = states["exec"]["one"]
    assert (one["engine"], one["user"], one["unit"]) == ("podman", "user" if user else "", "")
    assert one["processes"] == 2
    assert set(one["nodes"]) == {"/dev/nvidia1", "/dev/nvidiactl"}
    assert set(one["nodes"].values()) <= {"allowed", *(["unrestricted"] if user else [])}
    assert states["restart"]["one"]["processes"] == 1
    assert [*states["kill"]] == ["two" if age else "three"]
    assert states["removed"] == {}
    if not age:
        assert "three" in states["rename"]


@pytest.mark.parametrize("machine", ["v1"], indirect=True)
def test_device_rules_that_change(machine: Machine) -> None:
    """After `systemctl daemon-reload` the control group of a running container has other rules."""
    prepare(machine, "runc")
    directory = "/sys/fs/cgroup/devices$(sed -n 's/.*:devices://p' /proc/$PID/cgroup)"
    pid = "PID=$(podman --runtime runc inspect -f '{{.State.Pid}}' one)"
    run = ["run", "-d", "--name", "one", "--device", "nvidia.com/gpu=1", IMAGE, "sleep", "1000"]

    def change(file: str) -> list[str]:
        return ["sh", "-ec", f"{pid}; echo c 195:1 rw >{directory}/devices.{file}"]

    states = followed(
        machine,
        SETTLED,
        [
            ("first", ["podman", "--runtime", "runc", *run]),
            ("reload", change("deny")),
            ("update", change("allow")),
        ],
    )
    access = {title: state["one"]["nodes"]["/dev/nvidia1"] for title, state in states.items()}
    assert access == {"first": "allowed", "reload": "refused", "update": "allowed"}


@pytest.mark.parametrize("machine", ["v2"], indirect=True)
def test_containerd(machine: Machine, age: int) -> None:
    inside = machine.inside
    if inside.run(["ctr", "version"], check=False).returncode:
        inside.start(["containerd"], log="/var/log/containerd.log")
    deadline = time.monotonic() + PATIENCE
    while inside.run(["ctr", "version"], check=False).returncode:
        assert time.monotonic() < deadline, inside.read("/var/log/containerd.log")
        time.sleep(0.1)
    inside.run(["ctr", "image", "import", "--snapshotter", "native", "/images.tar"])
    # Without a share of the CPU: the lab's groups of version 2 have no such controller.
    options = ["--snapshotter", "native", "--device", "/dev/nvidia0", "--cpu-shares", "0"]
    name = f"c{age}"
    states = followed(
        machine,
        age,
        [
            ("run", ["ctr", "run", "-d", *options, f"{IMAGE}:latest", name, "sleep", "1000"]),
            ("exec", ["ctr", "task", "exec", "-d", "--exec-id", "e", name, "sleep", "999"]),
            ("kill", ["ctr", "task", "kill", "-s", "KILL", name]),
        ],
    )
    (container,) = states["exec"].values()
    assert (container["engine"], container["id"], container["processes"]) == ("containerd", name, 2)
    assert states["kill"] == {}


def test_containers_that_come_and_go(machine: Machine, age: int) -> None:
    """The short form of `make bench BENCH=following`, where 1,000 do."""
    prepare(machine, "crun")
    script = "for n in 1 2 3 4 5; do podman run --rm --network none {image} true; done"
    step = ["sh", "-ec", script.format(image=IMAGE)]
    states = followed(machine, age, [(str(number), step) for number in range(3)])
    assert [*states.values()] == [{}, {}, {}]


LABELS = ("engine", "id", "name", "image", "pod", "pids")


def test_two_capabilities_suffice_for_all_labels(machine: Machine) -> None:
    """What docs/metrics-service.md says: another user needs them, and only for device rules more."""
    machine.podman("runc", 0, "rootful", "--device", "nvidia.com/gpu=1")
    machine.podman("crun", debian.USER, "rootless", "--device", "nvidia.com/gpu=2")

    def who(*capabilities: str) -> dict[str, tuple[Any, ...]]:
        kept = ",".join(["-all", *(f"+{name}" for name in capabilities)])
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        sets = [f"--{name}={kept}" for name in ("bounding-set", "inh-caps", "ambient-caps")]
        command = ["cdi-gen", "who", "-o", "json", "--inventory", "/opt/inventory.json"]
        ended = machine.inside.run([*nobody, *sets, *command], check=False)
        containers = json.loads(ended.stdout)["containers"]
        return {entry["name"]: labels(entry) for entry in containers}

    def labels(entry: dict[str, Any]) -> tuple[Any, ...]:
        devices = [device["index"] for device in entry["devices"]]
        return (*(entry[name] for name in LABELS), devices)

    as_root = {entry["name"]: labels(entry) for entry in machine.who()["containers"]}
    assert {"rootful", "rootless"} <= set(as_root)
    assert who("sys_ptrace", "dac_read_search") == as_root
    assert who("sys_ptrace") != as_root
    assert who("dac_read_search") == who() == {}
