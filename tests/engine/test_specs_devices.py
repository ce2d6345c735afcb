# SPDX-License-Identifier: Apache-2.0
"""A container gets exactly the device nodes that were asked for, by every name, on every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.engine.conftest import TWO_ENGINES, Engine, MachineOf
from tests.engine.expected import (
    Nodes,
    by_path_links,
    control_nodes,
    gpu_links,
    gpu_nodes,
    mig_nodes,
    nodes,
)
from tests.engine.machine import Machine
from tests.fakehost.gpus import Gpu
from tests.lab.engines import CommandFailed
from tests.lab.podman import Podman

pytestmark = [pytest.mark.engine, pytest.mark.host]

EIGHT = tuple(range(8))
ASKED = {
    "all": EIGHT,
    "0": (0,),
    "7": (7,),
    "GPU-ab100005-c0de-4005-8005-000000001005": (5,),
    "pci-0000-24-00-0": (3,),
    "none": (),
}


def device(*names: str, kind: str = "nvidia.com/gpu") -> list[str]:
    return [word for name in names for word in ("--device", f"{kind}={name}")]


def answer_to_open(podman: Podman, path: str) -> tuple[str]:
    """ENXIO: allowed, and no driver is there. Only the node's numbers, owner and mode decide."""
    # A rootless container has the host's own node, and udev's rules shut the DRM nodes to others.
    return ("EACCES",) if podman.user and "/dri/" in path else ("ENXIO",)


def check(
    machine: Machine,
    podman: Podman,
    gpus: Sequence[Gpu],
    options: list[str],
    *,
    hooked: bool = True,
    absent: frozenset[str] = frozenset(),
) -> None:
    """The container has these GPUs' nodes beyond the usual ones, may open them, and is told so."""
    wanted: Nodes = gpu_nodes(*gpus, hooked=hooked) | control_nodes(machine.fake.kernel)
    wanted = {path: numbers for path, numbers in wanted.items() if path not in absent}
    answers = podman.ask(
        "distroless",
        ("find", "/dev"),
        ("open", *wanted),
        ("env", "NVIDIA_VISIBLE_DEVICES"),
        options=options,
    )
    assert machine.added_nodes(podman, answers) == wanted
    assert by_path_links(answers) == (gpu_links(*gpus) if hooked else {})
    for path in wanted:
        assert answers["open", path] == answer_to_open(podman, path), path
    assert answers["env", "NVIDIA_VISIBLE_DEVICES"] == ("set", "void")


@pytest.mark.parametrize("name", ASKED)
def test_a_gpu_by_each_of_its_names(machine: Machine, podman: Podman, name: str) -> None:
    machine.serve(nvidia=machine.generate())
    check(machine, podman, [*map(machine.gpu, ASKED[name])], device(name))


def test_two_gpus_together(machine: Machine, podman: Podman) -> None:
    machine.serve(nvidia=machine.generate())
    check(machine, podman, [machine.gpu(1), machine.gpu(6)], device("1", "6"))


@pytest.mark.parametrize("name", ["all", "0"])
def test_without_a_hook(machine: Machine, podman: Podman, name: str) -> None:
    machine.serve(nvidia=machine.generate("--hooks=none"))
    check(machine, podman, [*map(machine.gpu, ASKED[name])], device(name), hooked=False)


def test_the_yaml_form(machine: Machine, podman: Podman) -> None:
    machine.serve(nvidia=machine.generate("--format", "yaml"))
    check(machine, podman, [machine.gpu(2)], device("2"))


def test_the_nodes_of_another_gpu_stay_shut(machine: Machine, podman: Podman) -> None:
    """Even where the container may make itself a node: the control group knows the numbers."""
    if podman.user:
        pytest.skip("an unprivileged user has no device control group, and can make no node")
    machine.serve(nvidia=machine.generate())
    script = "for n in 0 1; do mknod /own$n c 195 $n; done; exec /probe open /own0 /own1"
    options = [*device("0"), "--cap-add", "mknod"]
    ran = podman("run", "--rm", *options, "localhost/debian", "sh", "-c", script)
    assert ran.stdout.splitlines() == ["open\t/own0\tENXIO", "open\t/own1\tEPERM"]


def test_a_user_in_the_container(machine: Machine, podman: Podman) -> None:
    machine.serve(nvidia=machine.generate())
    wanted = gpu_nodes(machine.gpu(0)) | control_nodes(machine.fake.kernel)
    questions = ("open", *wanted), ("stat", *wanted), ("dlopen", "libcuda.so.1")
    answers = podman.ask("debian", *questions, options=[*device("0"), "--user", "1000:1000"])
    for path in wanted:
        assert answers["open", path] == answer_to_open(podman, path), path
        # Engines give a node that a spec gives no owner to the container's first user.
        assert answers["stat", path][2:4] == (("65534",) if podman.user else ("1000",)) * 2
    assert answers["dlopen", "libcuda.so.1"][0] == "ok"


@pytest.fixture
def no_uvm(machine: Machine) -> Iterator[None]:
    """The host before anything has loaded nvidia-uvm, whose node comes with its first use."""
    machine.inside.run(["rm", "/dev/nvidia-uvm"])
    yield
    uvm = str(machine.fake.kernel.uvm_major)
    machine.inside.run(["mknod", "-m", "666", "/dev/nvidia-uvm", "c", uvm, "0"])


@pytest.mark.usefixtures("no_uvm")
def test_a_node_that_is_missing_on_the_host(machine: Machine, podman: Podman) -> None:
    machine.serve(nvidia=machine.generate())
    if podman.user:
        # A user can make no node; the host's is bound, and is not there.
        with pytest.raises(CommandFailed, match="/dev/nvidia-uvm"):
            podman.ask("distroless", ("stat", "/"), options=device("0"))
        return
    check(machine, podman, [machine.gpu(0)], device("0"))


def test_a_spec_for_rootless_engines_is_without_it(machine: Machine, podman: Podman) -> None:
    gone = "nvidia-uvm"
    with machine.without(gone):
        machine.serve(nvidia=machine.generate_now("--rootless"))
        gpus = [machine.gpu(0)]
        check(machine, podman, gpus, device("0"), absent=frozenset({f"/dev/{gone}"}))


def test_without_the_node_for_graphics_the_rest_works(machine: Machine, podman: Podman) -> None:
    """Nothing has made it: the module does not, and a headless host has no X server."""
    gone = "nvidia-modeset"
    with machine.without(gone):
        machine.serve(nvidia=machine.generate_now())
        gpus = [machine.gpu(0)]
        check(machine, podman, gpus, device("0"), absent=frozenset({f"/dev/{gone}"}))


@pytest.fixture
def as_in_a_container(machine: Machine) -> Iterator[None]:
    """No udev, and nodes of some GPUs alone: what LXC or an outer engine gave."""
    with machine.without("nvidia3", "dri/card4", "dri/renderD131", "dri/by-path"):
        yield


@pytest.mark.usefixtures("as_in_a_container")
@pytest.mark.parametrize("hooks", ["auto", "none"])
def test_a_host_that_is_a_container_gives_what_it_has(
    machine: Machine, podman: Podman, hooks: str
) -> None:
    """Rootless or not: it starts, and `all` has the GPUs that are there."""
    machine.serve(nvidia=machine.generate_now(f"--hooks={hooks}"))
    gpus = [machine.gpu(index) for index in range(8) if index != 3]
    if hooks == "auto":
        check(machine, podman, gpus, device("all"))
    else:
        answers = podman.ask("distroless", ("find", "/dev"), options=device("all"))
        wanted = gpu_nodes(*gpus) | control_nodes(machine.fake.kernel)
        assert machine.added_nodes(podman, answers) == wanted
    with pytest.raises(CommandFailed, match=r"unresolvable CDI devices nvidia\.com/gpu=3"):
        podman.ask("distroless", ("stat", "/"), options=device("3"))


@TWO_ENGINES
@pytest.mark.parametrize(
    ("host", "names", "devices"),
    [
        ("550-mig56", ["3:2"], [(3, 2)]),
        ("550-mig56", ["MIG-ab100007-c0de-500d-8000-0000000021c6"], [(7, 6)]),
        ("550-mig56", ["0:0", "4:1"], [(0, 0), (4, 1)]),
        ("550-mig56", ["all"], [(gpu, mig) for gpu in range(8) for mig in range(7)]),
        ("550-mig-mixed", ["1:1"], [(1, 1)]),  # shares its GPU instance with two others
        ("550-mig-mixed", ["0"], []),
    ],
)
def test_a_mig_device(
    machine_of: MachineOf,
    engine: Engine,
    host: str,
    names: list[str],
    devices: list[tuple[int, int]],
) -> None:
    machine = machine_of(engine.suite, host)
    podman = machine.podman(engine.runtime, engine.user)
    kernel = machine.fake.kernel
    machine.serve(nvidia=machine.generate())
    wanted = control_nodes(kernel) | (gpu_nodes(machine.gpu(0)) if names == ["0"] else {})
    for gpu, mig in devices:
        wanted |= mig_nodes(kernel, machine.gpu(gpu), machine.gpu(gpu).mig[mig])
    answers = podman.ask("distroless", ("find", "/dev"), ("read", *wanted), options=device(*names))
    assert machine.added_nodes(podman, answers) == wanted
    for path in wanted:
        assert answers["read", path] == answer_to_open(podman, path), path


def test_a_gpu_that_is_divided_can_not_be_had_whole(machine_of: MachineOf) -> None:
    machine = machine_of("trixie", "550-mig-mixed")
    machine.serve(nvidia=machine.generate())
    with pytest.raises(CommandFailed, match=r"unresolvable CDI devices nvidia\.com/gpu=1"):
        machine.podman("crun", 0).ask("distroless", ("stat", "/"), options=device("1"))


def test_a_host_s_odd_minors(machine_of: MachineOf) -> None:
    """Index 2 is /dev/nvidia3 where the driver numbered its GPUs otherwise."""
    machine = machine_of("trixie", "550-permuted")
    machine.serve(nvidia=machine.generate())
    answers = machine.podman("crun", 0).ask("distroless", ("find", "/dev"), options=device("2"))
    found = {path for path in nodes(answers) if path.rstrip("0123456789") == "/dev/nvidia"}
    assert found == {"/dev/nvidia3"}
