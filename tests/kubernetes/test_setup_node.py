# SPDX-License-Identifier: Apache-2.0
"""`setup-node` beside a real containerd, with the host's root mounted, as in a container."""

from __future__ import annotations

import hashlib
import itertools
import platform
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.lab.kubernetes import packages
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.configuration import CONTAINERD_SOCKET
from tests.lab.kubernetes.manifests import pod
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.process import Process, supervised
from tests.lab.kubernetes.waiting import until
from tools.bundle import contents
from tools.steps import BuildError

CONTAINERDS = ("2.2", "1.7")
ALL_GPUS = {"NVIDIA_VISIBLE_DEVICES": "all"}
SHOW = ("/bin/sh", "-c", "ls /dev | grep -cE '^nvidia[0-9]+$'; ls /usr/bin/nvidia-smi")
EIGHT = "8\n/usr/bin/nvidia-smi\n"
CONFIGURATION = "/etc/containerd"

EnterNode = Callable[..., AbstractContextManager[Node]]
Start = Callable[..., Process]
WithGpus = Callable[[FakeHost], dict[str, Any]]


HOST_ROOT = "/mnt"
CONTAINER = ("unshare", "--mount", "/bin/sh", "-c", f'mount --rbind / {HOST_ROOT} && exec "$@"')
"""A mount namespace of its own in which the node's root is mounted a second time."""
PYTHONS = "/usr/bin/python3*"
HIDE_PYTHON = f"for file in {PYTHONS}; do mount --bind /dev/null $(realpath $file); done"
WITH_PYTHON = (
    *CONTAINER[:-1],
    (
        f"mount --rbind / {HOST_ROOT}; for file in {PYTHONS}; do umount $(realpath $file); done; "
        'exec "$@"'
    ),
)
"""The same where the node has no Python and the container has."""
NUMBERS = itertools.count()


def start_set_up(node: Node, *options: str, container: Sequence[str] = CONTAINER) -> Process:
    words = ("kubernetes", "setup-node", f"--host-root={HOST_ROOT}", *options)
    name = f"setup-node-{next(NUMBERS)}"
    environment = packages.ENVIRONMENT
    return node.start(name, *container, "sh", *packages.CDI_GEN, *words, env=environment)


def wait_until_ready(process: Process, sign: str = "containerd is configured") -> None:
    def is_ready() -> bool:
        assert process.returncode() is None, process.text()
        return sign in process.text()

    try:
        until(is_ready, "the node is set up", seconds=30)
    except TimeoutError as error:
        raise AssertionError(process.text()) from error


def root_of(node: Node) -> Path:
    return Path(f"/proc/{node.inside.init}/root")


def tree(folder: Path) -> dict[str, str]:
    """The content, mode and owner of all that is below a directory."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        kind = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
        if path.is_symlink():
            kind += f" -> {path.readlink()}"
        elif path.is_file():
            kind += f" {hashlib.sha256(path.read_bytes()).hexdigest()}"
        found[str(path.relative_to(folder))] = kind
    return found


def changed_places(node: Node) -> dict[str, dict[str, str]]:
    root = root_of(node)
    places = ("etc", "usr/local", "run/cdi", "run/nvidia")
    return {place: tree(root / place) for place in places}


@pytest.fixture(scope="module", params=CONTAINERDS)
def node(
    request: pytest.FixtureRequest,
    enter_node: EnterNode,
    with_gpus: WithGpus,
    host: Callable[[str], FakeHost],
) -> Iterator[Node]:
    with (
        enter_node(request.param, **with_gpus(host("550-8gpu"))) as entered,
        supervised(entered.processes["containerd"]),
    ):
        yield entered


@pytest.fixture
def start(node: Node) -> Iterator[Start]:
    started: list[Process] = []

    def start_and_wait(*options: str) -> Process:
        started.append(start_set_up(node, *options))
        wait_until_ready(started[-1])
        return started[-1]

    yield start_and_wait
    for process in started:
        if process.returncode() is None:
            process.stop()


@pytest.mark.parametrize("handler", ["nvidia", "nvidia-cdi", "nvidia-legacy"])
def test_a_container_of_each_handler_gets_the_gpus(node: Node, start: Start, handler: str) -> None:
    start()
    ended = node.container(*SHOW, env=ALL_GPUS, handler=handler)
    assert ended == (0, EIGHT)


def test_a_container_of_the_usual_handler_gets_none(node: Node, start: Start) -> None:
    start()
    ended = node.container("/bin/sh", "-c", "ls /dev | grep -c nvidia; :", env=ALL_GPUS)
    assert ended == (0, "0\n")


def test_sigterm_undoes_everything_byte_for_byte(node: Node, start: Start) -> None:
    before = changed_places(node)
    set_up = start()
    assert changed_places(node) != before
    assert set_up.stop() == 0, set_up.text()
    assert changed_places(node) == before


def test_later_edits_of_the_administrator_stay(node: Node, start: Start) -> None:
    configuration = root_of(node) / "etc/containerd/config.toml"
    original = configuration.read_text()
    set_up = start()
    configuration.write_text(configuration.read_text() + "\n[debug]\n  level = 'info'\n")
    try:
        assert set_up.stop() == 0, set_up.text()
        assert configuration.read_text() == original + "\n[debug]\n  level = 'info'\n"
    finally:
        for left in configuration.parent.glob("config.toml*"):
            left.unlink()
        configuration.write_text(original)


def test_a_killed_set_up_is_completed_and_undone_by_the_next(node: Node, start: Start) -> None:
    before = changed_places(node)
    start().stop(signal.SIGKILL)
    again = start_set_up(node)
    wait_until_ready(again, "has the handlers")
    assert again.stop() == 0, again.text()
    assert changed_places(node) == before


def test_the_engine_was_restarted_by_its_socket(node: Node, start: Start) -> None:
    process = node.processes["containerd"]
    before = process.pid
    start(f"--socket={CONTAINERD_SOCKET}")
    assert process.pid != before


def test_without_a_driver_the_handlers_start_the_usual_runtime(enter_node: EnterNode) -> None:
    """The pod that installs the driver runs before there is one."""
    with (
        enter_node("2.2", binds=packages.binds()) as node,
        supervised(node.processes["containerd"]),
    ):
        process = start_set_up(node)
        wait_until_ready(process)
        assert "no spec is written yet" in process.text()
        ended = node.container("/bin/echo", "runs", env=ALL_GPUS, handler="nvidia")
        assert ended == (0, "runs\n")
        assert process.stop() == 0


def test_a_host_without_python_gets_the_bundle(
    enter_node: EnterNode,
    with_gpus: WithGpus,
    host: Callable[[str], FakeHost],
    tmp_path: Path,
) -> None:
    try:
        contents.lay_out(tmp_path, platform.machine(), REPOSITORY)
    except BuildError as error:
        pytest.skip(f"no bundle: {error}")
    furniture = with_gpus(host("550-8gpu"))
    furniture["binds"] = {**furniture["binds"], "/opt/bundle": tmp_path}
    with enter_node("2.2", **furniture) as node, supervised(node.processes["containerd"]):
        node.run("/bin/sh", "-c", HIDE_PYTHON)
        assert node.run("/bin/sh", "-c", "python3 -V", check=False).returncode
        before = changed_places(node)
        process = start_set_up(node, "--bundle=/opt/bundle", container=WITH_PYTHON)
        wait_until_ready(process)
        for handler in ("nvidia", "nvidia-cdi", "nvidia-legacy"):
            assert node.container(*SHOW, env=ALL_GPUS, handler=handler) == (0, EIGHT)
        assert process.stop() == 0, process.text()
        assert changed_places(node) == before


@pytest.mark.parametrize("release", CONTAINERDS)
def test_a_pod_of_the_runtime_class_works_in_a_cluster(
    release: str,
    enter_cluster: Callable[..., AbstractContextManager[Cluster]],
    with_gpus: WithGpus,
    host: Callable[[str], FakeHost],
) -> None:
    with (
        enter_cluster("v1.37.2", release, **with_gpus(host("550-8gpu"))) as cluster,
        supervised(cluster.node.processes["containerd"]),
    ):
        set_up = start_set_up(cluster.node)
        wait_until_ready(set_up)
        name = {"metadata": {"name": "nvidia"}, "handler": "nvidia"}
        cluster.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", **name})
        manifest = pod("smi", *SHOW)
        manifest["spec"]["runtimeClassName"] = "nvidia"
        variables = [{"name": key, "value": value} for key, value in ALL_GPUS.items()]
        manifest["spec"]["containers"][0]["env"] = variables
        cluster.apply(manifest)
        cluster.wait("smi", "Succeeded")
        assert cluster.log("smi") == EIGHT
        assert set_up.stop() == 0, set_up.text()
