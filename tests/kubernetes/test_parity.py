# SPDX-License-Identifier: Apache-2.0
"""The same requests to NVIDIA's device plugin and to ours, on the same fake host.

Both run in nodes of the lab and register with the same stand-in for a kubelet. One
default differs: 0.19.1 switches GDS, MOFED and GDRCopy on, which changes nothing for hosts that have
none of them, and ours waits for the flag; so the tests always name the flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest

from tests.fakehost.hosts import FakeHost
from tests.kubernetes.kubelet import Kubelet, Plugin
from tests.lab.cache import LabUnavailableError
from tests.lab.kubernetes import nvidia_device_plugin, packages
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.waiting import until

EnterNode = Callable[..., AbstractContextManager[Node]]
GPU = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def node(enter_node: EnterNode, host: Callable[[str], FakeHost]) -> Iterator[Node]:
    try:
        furniture = nvidia_device_plugin.furniture(host("550-8gpu"))
    except LabUnavailableError as error:
        pytest.skip(f"NVIDIA's device plugin: {error}")
    with enter_node(**furniture) as entered:
        entered.device_plugins.mkdir(parents=True, exist_ok=True)
        yield entered


TRANSPORTS = ("GDS_ENABLED", "MOFED_ENABLED", "GDRCOPY_ENABLED")


def answers(node: Node, name: str, options: dict[str, str], requests: list[list[int]]) -> Any:
    """Run a plugin with these variables; return its devices and its answers by request."""
    kubelet = Kubelet(node.device_plugins)
    kubelet.start()
    env = {"KUBELET_SOCKET": "/var/lib/kubelet/device-plugins/kubelet.sock"}
    env |= dict.fromkeys(TRANSPORTS, "false") | options
    daemon = None
    if name == "nvidia":
        env |= nvidia_device_plugin.ENVIRONMENT
        if "MPS_ROOT" in options:
            # The plugin waits for the daemon of NVIDIA's DaemonSet, which cannot set the compute
            # mode of the fake host's GPUs.
            node.run("mkdir", "-p", "/mps/nvidia.com/gpu/pipe")
            pipe = {"CUDA_MPS_PIPE_DIRECTORY": "/mps/nvidia.com/gpu/pipe"}
            daemon = node.start("mps", "/usr/bin/nvidia-cuda-mps-control", "-f", env=pipe)
        process = node.start("nvidia", *nvidia_device_plugin.DEVICE_PLUGIN, env=env)
    else:
        words = ("kubernetes", "device-plugin")
        process = node.start("cdi-gen", *packages.CDI_GEN, *words, env=packages.ENVIRONMENT | env)
    try:

        def healthy() -> bool:
            return list(kubelet.devices(GPU).values()).count("Healthy") >= 8

        until(healthy, f"{name} registers: {process.text()[-2000:]}")
        plugin = kubelet.plugins[GPU]
        ids = sorted(plugin.devices)
        return plugin.devices, [allocation(plugin, [ids[n] for n in each]) for each in requests]
    finally:
        process.stop()
        kubelet.stop()
        if daemon is not None:
            daemon.stop()


def allocation(plugin: Plugin, ids: list[str]) -> dict[str, Any]:
    """Return what a container gets, in a form that can be compared."""
    answer = plugin.allocate(*ids)
    return {
        # With indices, NVIDIA's plugin has the devices in another order each time.
        "envs": {key: sorted(value.split(",")) for key, value in answer.envs.items()},
        # The key ends with a random number in both.
        "annotations": sorted(answer.annotations.values()),
        "mounts": sorted((m.container_path, m.host_path, m.read_only) for m in answer.mounts),
        "devices": sorted((d.container_path, d.host_path, d.permissions) for d in answer.devices),
        "cdi": sorted(device.name for device in answer.cdi_devices),
    }


REQUESTS = [[0], [3, 1], list(range(8))]


@pytest.mark.parametrize(
    "options",
    [
        {"DEVICE_LIST_STRATEGY": "envvar"},
        {"DEVICE_LIST_STRATEGY": "envvar", "DEVICE_ID_STRATEGY": "index"},
        {"DEVICE_LIST_STRATEGY": "envvar", "PASS_DEVICE_SPECS": "true"},
        {"DEVICE_LIST_STRATEGY": "volume-mounts"},
        {"DEVICE_LIST_STRATEGY": "cdi-cri"},
        {"DEVICE_LIST_STRATEGY": "cdi-annotations"},
        {"DEVICE_LIST_STRATEGY": "cdi-annotations,cdi-cri", "PASS_DEVICE_SPECS": "true"},
        {"DEVICE_LIST_STRATEGY": "cdi-cri", "DEVICE_ID_STRATEGY": "index"},
        {"DEVICE_LIST_STRATEGY": "envvar,volume-mounts"},
        {"DEVICE_LIST_STRATEGY": "volume-mounts,cdi-cri", "PASS_DEVICE_SPECS": "true"},
        {"DEVICE_LIST_STRATEGY": "cdi-cri", **dict.fromkeys(TRANSPORTS, "true")},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_both_plugins_answer_the_same(node: Node, options: dict[str, str]) -> None:
    ours = answers(node, "ours", options, REQUESTS)
    theirs = answers(node, "nvidia", options, REQUESTS)
    for request, answer, other in zip(REQUESTS, ours[1], theirs[1], strict=True):
        differences = {
            key: (answer[key], other[key]) for key in answer if answer[key] != other[key]
        }
        assert not differences, request


SHARED = """\
version: v1
sharing:
  STRATEGY:
    resources: [{name: nvidia.com/gpu, replicas: 4}]
"""
PIPE = "/mps/nvidia.com/gpu/pipe"
OURS = {
    "timeSlicing": {"NVIDIA_GPU_SHARING_STRATEGY": ["time-slicing"], "NVIDIA_GPU_REPLICAS": ["4"]},
    "mps": {
        "NVIDIA_GPU_SHARING_STRATEGY": ["mps"],
        "NVIDIA_GPU_REPLICAS": ["4"],
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": ["25"],
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": ["0=20389M"],
    },
}
"""Variables that only ours sets."""
THEIRS = [("/dev/shm", "/run/mps/shm", False), (PIPE, f"/run/mps{PIPE[4:]}", False)]
"""NVIDIA's plugin mounts the whole pipe directory, with the socket by which root of a container can
end the daemon; and shared memory, which clients of driver 580 do not need."""


@pytest.mark.parametrize("strategy", ["timeSlicing", "mps"])
def test_shared_gpus_differ_as_the_tables_say(node: Node, strategy: str) -> None:
    node.inside.write("/etc/shared.yaml", SHARED.replace("STRATEGY", strategy))
    options = {"CONFIG_FILE": "/etc/shared.yaml", "MPS_ROOT": "/run/mps"}
    options["DEVICE_LIST_STRATEGY"] = "envvar,cdi-cri"
    ((_, (own,)), (_, (other,))) = (
        answers(node, "ours", options, [[5]]),
        answers(node, "nvidia", options, [[5]]),
    )
    assert own["envs"] == other["envs"] | OURS[strategy]
    if strategy == "mps":
        uuid = own["envs"]["NVIDIA_VISIBLE_DEVICES"][0]
        assert own.pop("mounts") == [(PIPE, f"/run/mps/{uuid}/clients", True)]
        assert other.pop("mounts") == THEIRS
        assert node.run("ls", f"/run/mps/{uuid}/clients").stdout == "control\n"
    for answer in (own, other):
        del answer["envs"]
    assert own == other


def test_both_plugins_refuse_more_than_one_client_of_mps(node: Node) -> None:
    node.inside.write("/etc/shared.yaml", SHARED.replace("STRATEGY", "mps"))
    options = {"CONFIG_FILE": "/etc/shared.yaml", "MPS_ROOT": "/run/mps"}
    for name in ("ours", "nvidia"):
        with pytest.raises(grpc.RpcError):
            answers(node, name, options, [[0, 1]])
