# SPDX-License-Identifier: Apache-2.0
"""Containers that join another one's namespaces, its user namespace too, as those of a pod do."""

from __future__ import annotations

import json

import pytest

from tests.engine.conftest import Engine, MachineOf
from tests.lab import debian
from tests.lab.podman import Podman

pytestmark = [pytest.mark.engine, pytest.mark.host]

ENGINES = [
    Engine(suite, runtime, user)
    for suite in ("bookworm", "trixie")
    for user in (0, debian.USER)
    for runtime in ("crun", "runc")
]
GPU = ("--device", "nvidia.com/gpu=none")
"""Files of the driver and no node: what is tried is mounts."""


WITHOUT_HOOKS = Engine("trixie", "crun", 0)
"""crun 1.21 ends with every createContainer hook, /bin/true too, where root starts a container with
a user namespace: "error executing hook (exit code: 1)"."""


def in_a_pod(podman: Podman) -> tuple[int, str]:
    """How a container with the driver ends that joins another, and what it says."""
    own = ("--userns=keep-id",) if podman.user else ("--uidmap", "0:100000:65536")
    waits = ("localhost/debian", "/probe", "pause", "-")
    podman("run", "--detach", "--name", "first", *own, *waits)
    joined = [f"--{each}=container:first" for each in ("userns", "network", "ipc", "uts")]
    try:
        words = ("localhost/debian", "/probe", "dlopen", "libcuda.so.1")
        ended = podman("run", "--rm", *joined, *GPU, *words, check=False)
    finally:
        podman("rm", "--force", "--time", "0", "first")
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("engine", "mode"),
    [
        pytest.param(engine, mode, id=f"{engine}-{mode}")
        for engine in ENGINES
        for mode in ("auto", "none")
        if (engine, mode) != (WITHOUT_HOOKS, "auto")
    ],
)
def test_the_driver_in_a_pod(machine_of: MachineOf, engine: Engine, mode: str) -> None:
    machine = machine_of(engine.suite, "550-8gpu")
    podman = machine.podman(engine.runtime, engine.user)
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    assert in_a_pod(podman)[1].startswith("dlopen\tlibcuda.so.1\tok")


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_driver_for_a_user_of_the_same_number(
    machine_of: MachineOf, suite: str, runtime: str
) -> None:
    """As toolbox and distrobox start containers: config.json is of no root that the hook knows."""
    machine = machine_of(suite, "550-8gpu")
    machine.serve(nvidia=machine.generate())
    podman = machine.podman(runtime, debian.USER)
    options = ("--userns=keep-id", *GPU)
    assert podman.ask("debian", ("dlopen", "libcuda.so.1"), options=options) == {
        ("dlopen", "libcuda.so.1"): ("ok", "/lib/x86_64-linux-gnu/libcuda.so.1")
    }


@pytest.mark.parametrize("engine", [each for each in ENGINES if each.runtime == "crun"], ids=str)
def test_crun_needs_the_type_of_a_mount(machine_of: MachineOf, engine: Engine) -> None:
    """Why each has one: crun#1948, in both releases."""
    machine = machine_of(engine.suite, "550-8gpu")
    spec = json.loads(machine.generate("--hooks=none"))
    for mount in spec["containerEdits"]["mounts"]:
        del mount["type"]
    machine.serve(nvidia=json.dumps(spec))
    status, said = in_a_pod(machine.podman(engine.runtime, engine.user))
    assert status == 126
    assert "sync socket" in said
