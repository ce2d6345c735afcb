# SPDX-License-Identifier: Apache-2.0
"""The device plugin with a real kubelet and a real engine: what pods get."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import grpc
import pytest

from cdi_gen.kubernetes.plugin.registration import CHANNEL_OPTIONS
from cdi_gen.kubernetes.protocols import podresources_v1_pb2 as api
from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import gpu_host, packages
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.container_engines import WITH_KUBERNETES
from tests.lab.kubernetes.manifests import pod
from tests.lab.kubernetes.process import Process
from tests.lab.kubernetes.waiting import until

GPU = "nvidia.com/gpu"
SHOW = ("/bin/sh", "-c", "ls /dev | grep -E '^nvidia[0-9]+$'; ls /usr/bin/nvidia-smi")

EnterCluster = Callable[..., AbstractContextManager[Cluster]]


def start_plugin(cluster: Cluster, *options: str) -> Process:
    words = ("kubernetes", "device-plugin", *options)
    return cluster.node.start("plugin", *packages.CDI_GEN, *words, env=packages.ENVIRONMENT)


@pytest.fixture(scope="module", params=WITH_KUBERNETES, ids="-".join)
def cluster(
    request: pytest.FixtureRequest, enter_cluster: EnterCluster, host: Callable[[str], FakeHost]
) -> Iterator[Cluster]:
    """A node with eight GPUs and a running device plugin."""
    with enter_cluster(*request.param, **gpu_host.furniture(host("550-8gpu"))) as entered:
        start_plugin(entered)
        until(lambda: entered.allocatable(GPU) == 8, "the plugin is registered")
        yield entered


def ask(cluster: Cluster, method: str, request: Any, answer: type[Any]) -> Any:
    """Call the kubelet's service that tells about the devices of pods.

    Raises:
        grpc.RpcError: it does not answer.
    """
    channel = grpc.insecure_channel(f"unix:{cluster.node.pod_resources}", options=CHANNEL_OPTIONS)
    call = channel.unary_unary(
        f"/v1.PodResourcesLister/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    with channel:
        return call(request, timeout=10)


def offered(cluster: Cluster) -> int:
    """Return how many GPUs the kubelet itself has to give.

    The node's object in the API shows those of before for a while after a restart.
    """
    request = api.AllocatableResourcesRequest()
    try:
        answer = ask(cluster, "GetAllocatableResources", request, api.AllocatableResourcesResponse)
    except grpc.RpcError:
        return 0
    return gpus(answer.devices)


def in_use(cluster: Cluster) -> int:
    """Return how many GPUs the pods have that the kubelet has not ended yet."""
    answer = ask(cluster, "List", api.ListPodResourcesRequest(), api.ListPodResourcesResponse)
    containers = [container for pod in answer.pod_resources for container in pod.containers]
    return sum(gpus(container.devices) for container in containers)


def gpus(devices: Iterable[Any]) -> int:
    return sum(len(device.device_ids) for device in devices if device.resource_name == GPU)


def nodes_of(cluster: Cluster, name: str, count: int) -> list[str]:
    """Run a pod with so many GPUs; return the GPUs' nodes that it sees."""
    cluster.apply(pod(name, *SHOW, limits={GPU: count}))
    cluster.wait(name, "Succeeded")
    *nodes, program = cluster.log(name).splitlines()
    assert program == "/usr/bin/nvidia-smi"
    cluster.delete(name)
    return nodes


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_pod_gets_as_many_gpus_as_it_asks_for(cluster: Cluster, count: int) -> None:
    assert len(nodes_of(cluster, f"gpus-{count}", count)) == count


def test_a_pod_without_a_limit_gets_no_gpu(cluster: Cluster) -> None:
    cluster.apply(pod("none", "/bin/sh", "-c", "ls /dev | grep -c nvidia || true"))
    cluster.wait("none", "Succeeded")
    assert cluster.log("none") == "0\n"
    cluster.delete("none")


def test_pods_at_the_same_time_get_different_gpus(cluster: Cluster) -> None:
    script = "ls /dev | grep -E '^nvidia[0-9]+$'; sleep 2147483647"
    names = [f"together-{number}" for number in range(4)]
    for name in names:
        cluster.apply(pod(name, "/bin/sh", "-c", script, limits={GPU: 2}))
    for name in names:
        cluster.wait(name, "Running")
    logs = [until(partial(cluster.log, name), "its output") for name in names]
    assert sorted(" ".join(logs).split()) == [f"nvidia{number}" for number in range(8)]
    for name in names:
        cluster.delete(name)


def test_pods_are_admitted_after_kubelet_and_plugin_were_killed(cluster: Cluster) -> None:
    # A kubelet forgets the GPUs of a deleted pod when it allocates the next time. One that starts
    # counts them until it has all pods of the API server, and rejects pods meanwhile.
    until(lambda: in_use(cluster) == 0, "the pods of the tests before have ended")
    assert len(nodes_of(cluster, "before", 1)) == 1
    for number in range(3):
        cluster.restart_kubelet()
        until(lambda: offered(cluster) == 8, "the plugin registers again")
        assert len(nodes_of(cluster, f"after-kubelet-{number}", 1)) == 1
    cluster.node.processes["plugin"].stop(signal.SIGKILL)
    start_plugin(cluster)
    until(lambda: offered(cluster) == 8, "a new plugin registers")
    assert len(nodes_of(cluster, "after-plugin", 2)) == 2
