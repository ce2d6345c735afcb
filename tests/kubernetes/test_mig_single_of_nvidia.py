# SPDX-License-Identifier: Apache-2.0
"""The MIG strategy single on GPUs that differ: NVIDIA's plugin ends, ours serves what fits.

The labels of each program say what its plugin advertises.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.fakehost.hosts import FakeHost
from tests.kubernetes.kubelet import Kubelet
from tests.lab.cache import LabUnavailableError
from tests.lab.kubernetes import nvidia_device_plugin, packages
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.waiting import until

EnterNode = Callable[..., AbstractContextManager[Node]]
GPU = "nvidia.com/gpu"
KUBELET = {"KUBELET_SOCKET": "/var/lib/kubelet/device-plugins/kubelet.sock"}
SINGLE = "--mig-strategy=single"


def count(labels: str) -> int:
    """The label ``nvidia.com/gpu.count``."""
    (line,) = [line for line in labels.splitlines() if line.startswith(f"{GPU}.count=")]
    return int(line.partition("=")[2])


@pytest.mark.parametrize(
    ("name", "reason", "advertised", "labelled"),
    [
        ("550-mig-mixed", "device 2 has no MIG devices configured", 1, 1),
        # An A100, and an RTX 4090 that the labels do not describe: they have one model.
        ("550-mig-empty", "device 1 has no MIG devices configured", 2, 1),
    ],
)
def test_labels_and_plugin_agree(
    enter_node: EnterNode,
    host: Callable[[str], FakeHost],
    name: str,
    reason: str,
    advertised: int,
    labelled: int,
) -> None:
    try:
        furniture = nvidia_device_plugin.furniture(host(name))
    except LabUnavailableError as error:
        pytest.skip(f"NVIDIA's device plugin: {error}")
    with enter_node(**furniture) as node:
        node.device_plugins.mkdir(parents=True, exist_ok=True)
        of_nvidia(node, reason)
        of_cdi_gen(node, advertised, labelled)


def of_nvidia(node: Node, reason: str) -> None:
    env = KUBELET | nvidia_device_plugin.ENVIRONMENT
    kubelet = Kubelet(Path(node.device_plugins))
    kubelet.start()
    try:
        plugin = node.start("nvidia", *nvidia_device_plugin.DEVICE_PLUGIN, SINGLE, env=env)
        assert plugin.wait() == 1
        assert reason in plugin.text()
        assert not kubelet.plugins
    finally:
        kubelet.stop()
    once = (*nvidia_device_plugin.FEATURE_DISCOVERY, "--oneshot", SINGLE)
    labels = node.run(*once).stdout
    assert "-MIG-INVALID" in labels
    assert count(labels) == 0


def of_cdi_gen(node: Node, advertised: int, labelled: int) -> None:
    kubelet = Kubelet(Path(node.device_plugins))
    kubelet.start()
    words = (*packages.CDI_GEN, "kubernetes")
    env = packages.ENVIRONMENT | KUBELET
    plugin = node.start("cdi-gen", *words, "device-plugin", SINGLE, env=env)
    try:
        until(lambda: len(kubelet.devices(GPU)) == advertised, f"devices: {plugin.text()[-2000:]}")
        once = ("labels", "--oneshot", "--output-file=-", SINGLE)
        labels = node.run(*words, *once, env=packages.ENVIRONMENT).stdout
        assert "-MIG-INVALID" not in labels
        assert count(labels) == labelled
    finally:
        plugin.stop()
        kubelet.stop()
