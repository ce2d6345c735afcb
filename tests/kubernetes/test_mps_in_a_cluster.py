# SPDX-License-Identifier: Apache-2.0
"""MPS with a real kubelet and scheduler, and the real control program of driver 550.

Nothing computes, because the GPUs are those of a fake host: docs/gpu/kubernetes.md has pods that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest

from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import gpu_host, packages
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.manifests import pod
from tests.lab.kubernetes.process import Process
from tests.lab.kubernetes.waiting import until

SHARED = "nvidia.com/gpu.shared"
CONFIG = """\
version: v1
sharing:
  mps:
    renameByDefault: true
    resources: [{name: nvidia.com/gpu, devices: [0, 5], replicas: 4}]
"""
DAEMONS = "cat /run/nvidia/mps/*/pipe/nvidia-cuda-mps-control.pid"
PIPE = f"/mps/{SHARED}/pipe"


def start_plugin(cluster: Cluster) -> Process:
    words = ("kubernetes", "device-plugin", "--config-file", "/etc/mps.yaml")
    return cluster.node.start("plugin", *packages.CDI_GEN, *words, env=packages.ENVIRONMENT)


@pytest.fixture(scope="module")
def cluster(
    enter_cluster: Callable[..., AbstractContextManager[Cluster]],
    host: Callable[[str], FakeHost],
) -> Iterator[Cluster]:
    with enter_cluster(**gpu_host.furniture(host("550-8gpu"))) as entered:
        entered.node.inside.write("/etc/mps.yaml", CONFIG)
        start_plugin(entered)
        until(lambda: entered.allocatable(SHARED) == 8, "the daemons serve")
        yield entered


def test_shared_and_whole_gpus_have_different_names(cluster: Cluster) -> None:
    assert cluster.allocatable("nvidia.com/gpu") == 6


def test_a_pod_gets_the_socket_of_its_daemon_and_its_limits(cluster: Cluster) -> None:
    script = f"ls -a {PIPE}; touch {PIPE}/x; env | grep -E 'MPS|GPU_' | sort"
    cluster.apply(pod("client", "/bin/sh", "-c", script, limits={SHARED: 1}))
    cluster.wait("client", "Succeeded")
    assert cluster.log("client").splitlines() == [
        ".",
        "..",
        "control",
        f"touch: {PIPE}/x: Read-only file system",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=20389M",
        f"CUDA_MPS_PIPE_DIRECTORY={PIPE}",
        "NVIDIA_GPU_REPLICAS=4",
        "NVIDIA_GPU_SHARING_STRATEGY=mps",
    ]
    cluster.delete("client")


def test_a_pod_that_asks_for_two_clients_is_refused(cluster: Cluster) -> None:
    cluster.apply(pod("two", "/bin/sh", limits={SHARED: 2}))
    status = cluster.wait("two", "Failed")["status"]
    assert status["reason"] == "UnexpectedAdmissionError"
    assert "may request one nvidia.com/gpu.shared and requests 2" in status["message"]
    cluster.delete("two")


def sees_another(cluster: Cluster, name: str, inode: str) -> bool:
    """Whether a pod, which prints the inode of the socket, has printed another one."""
    return cluster.log(name).split()[-1] != inode


def test_a_pod_sees_the_socket_of_a_daemon_that_was_started_again(cluster: Cluster) -> None:
    script = f"while :; do stat -c %i {PIPE}/control; sleep 0.2; done"
    names = [f"long-{number}" for number in range(2)]
    for name in names:
        cluster.apply(pod(name, "/bin/sh", "-c", script, limits={SHARED: 1}))
        cluster.wait(name, "Running")
        until(partial(cluster.log, name), "it sees a socket")
    before = {name: cluster.log(name).split()[0] for name in names}
    assert before["long-0"] != before["long-1"], "the pods are spread over the GPUs"
    kill = "for file in /run/nvidia/mps/*/pipe/*.pid; do kill -KILL $(cat $file); done"
    cluster.node.run("sh", "-c", kill)
    for name in names:
        until(partial(sees_another, cluster, name, before[name]), "it sees another socket")
    until(lambda: cluster.allocatable(SHARED) == 8, "the devices come back")
    for name in names:
        cluster.delete(name)


def test_daemons_go_on_when_the_plugin_is_replaced(cluster: Cluster) -> None:
    before = cluster.node.run("sh", "-c", DAEMONS).stdout
    cluster.node.processes["plugin"].stop()
    plugin = start_plugin(cluster)
    until(lambda: plugin.text().count("adopted") == 2, "both daemons are adopted")
    assert cluster.node.run("sh", "-c", DAEMONS).stdout == before
    until(lambda: cluster.allocatable(SHARED) == 8, "the devices are there")
