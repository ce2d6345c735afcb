# SPDX-License-Identifier: Apache-2.0
"""`nvidia-toolkit` with the mounts and variables of the GPU Operator's DaemonSet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.kubernetes.test_setup_node import (
    ALL_GPUS,
    CONTAINERDS,
    EIGHT,
    NUMBERS,
    SHOW,
    root_of,
    tree,
    wait_until_ready,
)
from tests.lab.kubernetes import gpu_operator, packages
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.process import Process, supervised


def start_operand(node: Node, **variables: str) -> Process:
    environment = {**packages.ENVIRONMENT, **gpu_operator.ENVIRONMENT, **variables}
    words = gpu_operator.command("/usr/bin/python3")
    return node.start(f"operand-{next(NUMBERS)}", *words, env=environment)


@pytest.fixture(scope="module", params=CONTAINERDS)
def node(
    request: pytest.FixtureRequest,
    enter_node: Callable[..., AbstractContextManager[Node]],
    with_gpus: Callable[[FakeHost], dict[str, Any]],
    host: Callable[[str], FakeHost],
) -> Iterator[Node]:
    with (
        enter_node(request.param, **with_gpus(host("550-8gpu"))) as entered,
        supervised(entered.processes["containerd"]),
    ):
        yield entered


@pytest.fixture
def operand(node: Node) -> Iterator[Process]:
    process = start_operand(node)
    wait_until_ready(process)
    yield process
    if process.returncode() is None:
        process.stop()


def test_the_validators_container_gets_all_gpus(node: Node, operand: Process) -> None:
    assert node.container(*SHOW, env=ALL_GPUS, handler="nvidia") == (0, EIGHT), operand.text()


def test_the_installation_has_the_programs_of_the_contract(node: Node, operand: Process) -> None:
    toolkit = root_of(node) / "usr/local/nvidia/toolkit/"
    names = {
        "nvidia-container-runtime",
        "nvidia-container-runtime.cdi",
        "nvidia-container-runtime.legacy",
        "nvidia-container-runtime-hook",
        "nvidia-ctk",
        "nvidia-cdi-hook",
        ".config/nvidia-container-runtime/config.toml",
    }
    assert operand.returncode() is None
    assert {name for name in names if (toolkit / name).exists()} == names


def test_specs_of_other_programs_can_name_the_hook(node: Node, operand: Process) -> None:
    """NVIDIA's device plugin names `nvidia-cdi-hook`, or by default `nvidia-ctk hook`."""
    assert operand.returncode() is None
    toolkit = "/usr/local/nvidia/toolkit"
    for words in ((f"{toolkit}/nvidia-cdi-hook",), (f"{toolkit}/nvidia-ctk", "hook")):
        ended = node.run(*words, "a-step-of-tomorrow", stdin="{}", check=False)
        assert ended.returncode == 0
        assert "CDG-K001" in ended.stderr
    ended = node.run(f"{toolkit}/nvidia-ctk", "cdi", "list", check=False)
    assert (ended.returncode, "cdi-gen has only the command hook" in ended.stderr) == (1, True)


def test_only_the_drop_in_and_the_import_are_changed(node: Node, operand: Process) -> None:
    changed = tree(root_of(node) / "etc/containerd")
    assert operand.returncode() is None
    assert [name for name in changed if name.endswith(".toml")] == [
        "conf.d/99-nvidia.toml",
        "config.toml",
    ]
    text = (root_of(node) / "etc/containerd/config.toml").read_text()
    assert 'imports = ["/etc/containerd/conf.d/*.toml"]' in text


def test_sigterm_reverts_the_engine_and_leaves_the_programs(node: Node) -> None:
    node.run("mkdir", "-p", "/etc/containerd/conf.d")
    before = tree(root_of(node) / "etc/containerd")
    process = start_operand(node)
    wait_until_ready(process)
    assert process.stop() == 0, process.text()
    assert tree(root_of(node) / "etc/containerd") == before
    assert tree(root_of(node) / "run/cdi") == {}
    assert (root_of(node) / "usr/local/nvidia/toolkit/nvidia-container-runtime").exists()


def test_with_nri_a_pod_gets_the_gpus_and_no_engine_is_changed(node: Node) -> None:
    node.run("mkdir", "-p", "/etc/containerd/conf.d")
    before = tree(root_of(node) / "etc/containerd")
    socket = {"NRI_SOCKET": "/host/run/nri/nri.sock", "NRI_NAMESPACE": "default"}
    process = start_operand(node, ENABLE_NRI_PLUGIN="true", **socket)
    wait_until_ready(process, "is registered")
    annotations = {"nvidia.cdi.k8s.io/pod": "management.nvidia.com/gpu=all"}
    if node.engine.release == "2.2":  # containerd 1.7 ignores devices of NRI plugins
        assert node.container(*SHOW, pod_annotations=annotations) == (0, EIGHT)
    assert tree(root_of(node) / "etc/containerd") == before
    assert process.stop() == 0, process.text()
