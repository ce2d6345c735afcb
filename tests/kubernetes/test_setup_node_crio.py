# SPDX-License-Identifier: Apache-2.0
"""`setup-node` beside a real CRI-O, which a stand-in for systemctl restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.kubernetes.test_setup_node import (
    ALL_GPUS,
    EIGHT,
    SHOW,
    changed_places,
    root_of,
    start_set_up,
    wait_until_ready,
)
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.container_engines import CRIO
from tests.lab.kubernetes.manifests import pod
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.process import Process, supervised

DROP_IN = "etc/crio/crio.conf.d/99-nvidia.toml"
HANDLERS = ("nvidia", "nvidia-cdi", "nvidia-legacy")

# The node has no systemd. Like its systemctl, this ends when the engine has ended; the test starts
# the engine again.
SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> /lab/systemctl
[ "$1 $2" = "restart crio" ] || exit 0
process=$(busybox pidof crio)
kill $process
while kill -0 $process 2>/dev/null; do sleep 0.1; done
"""

WithGpus = Callable[[FakeHost], dict[str, Any]]


def install_systemctl(node: Node) -> None:
    node.inside.write("/usr/bin/systemctl", SYSTEMCTL)
    node.run("chmod", "755", "/usr/bin/systemctl")


@pytest.fixture(scope="module")
def node(
    enter_node: Callable[..., AbstractContextManager[Node]],
    with_gpus: WithGpus,
    host: Callable[[str], FakeHost],
) -> Iterator[Node]:
    with (
        enter_node(CRIO, **with_gpus(host("550-8gpu"))) as entered,
        supervised(entered.processes["crio"]),
    ):
        install_systemctl(entered)
        yield entered


@pytest.fixture
def set_up(node: Node) -> Iterator[Process]:
    """A set-up that is complete, and undone after the test."""
    process = start_set_up(node, "--runtime=crio")
    wait_until_ready(process, "crio is configured")
    yield process
    if process.returncode() is None:
        process.stop()


def effective_configuration(node: Node) -> str:
    """Return the configuration that the running CRI-O has."""
    return node.run("crio", "status", "config").stdout


def test_the_running_engine_has_the_handlers(node: Node, set_up: Process) -> None:
    text = effective_configuration(node)
    for handler in HANDLERS:
        assert f"[crio.runtime.runtimes.{handler}]" in text, set_up.text()
    assert 'default_runtime = "runc"' in text
    assert "restart crio" in (node.shared / "systemctl").read_text().splitlines()


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.usefixtures("set_up")
def test_a_container_of_each_handler_gets_the_gpus(node: Node, handler: str) -> None:
    assert node.container(*SHOW, env=ALL_GPUS, handler=handler) == (0, EIGHT)


@pytest.mark.usefixtures("set_up")
def test_a_container_of_the_usual_handler_gets_none(node: Node) -> None:
    ended = node.container("/bin/sh", "-c", "ls /dev | grep -c nvidia; :", env=ALL_GPUS)
    assert ended == (0, "0\n")


@pytest.mark.parametrize(
    "request_of",
    [
        {"devices": ["nvidia.com/gpu=3"]},
        {"annotations": {"cdi.k8s.io/test": "nvidia.com/gpu=3"}},
    ],
    ids=["field", "annotation"],
)
@pytest.mark.usefixtures("set_up")
def test_a_container_gets_the_device_that_it_names(node: Node, request_of: dict[str, Any]) -> None:
    """Of the spec that the set-up writes, and by its hook."""
    script = "ls /dev | grep -E '^nvidia[0-9]+$'; ls /etc/ld.so.conf.d"
    assert node.container("/bin/sh", "-c", script, **request_of) == (
        0,
        "nvidia3\n00-cdi-gen.conf\n",
    )


def test_sigterm_undoes_everything_byte_for_byte(node: Node) -> None:
    before = changed_places(node)
    process = start_set_up(node, "--runtime=crio")
    wait_until_ready(process, "crio is configured")
    assert (root_of(node) / DROP_IN).exists()
    assert process.stop() == 0, process.text()
    assert changed_places(node) == before
    node.wait_for_engine()
    assert "nvidia" not in effective_configuration(node)


def test_a_pod_of_the_runtime_class_works_in_a_cluster(
    enter_cluster: Callable[..., AbstractContextManager[Cluster]],
    with_gpus: WithGpus,
    host: Callable[[str], FakeHost],
) -> None:
    with (
        enter_cluster("v1.37.2", CRIO, **with_gpus(host("550-8gpu"))) as cluster,
        supervised(cluster.node.processes["crio"]),
    ):
        install_systemctl(cluster.node)
        process = start_set_up(cluster.node, "--runtime=crio")
        wait_until_ready(process, "crio is configured")
        name = {"metadata": {"name": "nvidia"}, "handler": "nvidia"}
        cluster.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", **name})
        manifest = pod("smi", *SHOW, runtimeClassName="nvidia")
        variables = [{"name": key, "value": value} for key, value in ALL_GPUS.items()]
        manifest["spec"]["containers"][0]["env"] = variables
        cluster.apply(manifest)
        cluster.wait("smi", "Succeeded")
        assert cluster.log("smi") == EIGHT
        assert process.stop() == 0, process.text()
