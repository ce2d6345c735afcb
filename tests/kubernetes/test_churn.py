# SPDX-License-Identifier: Apache-2.0
"""A thousand pods, and fifty deaths of kubelet and plugin: no GPU is given out twice, nothing leaks."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.kubernetes.test_device_plugin import GPU, offered, start_plugin
from tests.lab.kubernetes import gpu_host
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.manifests import pod
from tests.lab.kubernetes.process import SHARED
from tests.lab.kubernetes.waiting import until

EnterCluster = Callable[..., AbstractContextManager[Cluster]]

PODS = 1000
IN_FLIGHT = 48
"""Pods that exist at a time; eight GPUs let eight of them run."""
DEATHS = 50
ATTEMPTS = 5
"""Of a controller to run a pod."""

USE_GPUS = """\
set -e
for gpu in $(ls /dev | grep -E '^nvidia[0-9]+$'); do
    mkdir /locks/$gpu || { echo "$gpu is in use"; exit 9; }
done
for gpu in $(ls /dev | grep -E '^nvidia[0-9]+$'); do rmdir /locks/$gpu; done
"""


@pytest.fixture
def cluster(enter_cluster: EnterCluster, host: Callable[[str], FakeHost]) -> Iterator[Cluster]:
    with enter_cluster(**gpu_host.furniture(host("550-8gpu"))) as entered:
        start_plugin(entered)
        until(lambda: offered(entered) == 8, "the plugin is registered")
        (entered.node.shared / "locks").mkdir()
        yield entered


def create(cluster: Cluster, name: str, count: int) -> None:
    """Create a pod that takes a lock on each of its GPUs."""
    manifest = pod(
        name,
        "/bin/sh",
        "-c",
        USE_GPUS,
        limits={GPU: count},
        volumes=[{"name": "locks", "hostPath": {"path": f"{SHARED}/locks"}}],
    )
    container = manifest["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "locks", "mountPath": "/locks"}]
    cluster.api.create("/api/v1/namespaces/default/pods", manifest)


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = cluster.api.get("/api/v1/namespaces/default/pods")["items"]
    return items


def forget_ended(cluster: Cluster, outcomes: Counter[str]) -> int:
    """Delete the pods that have ended, and count how; return how many remain."""
    remaining = 0
    for item in pods(cluster):
        status = item["status"]
        if status.get("phase") not in {"Succeeded", "Failed"}:
            remaining += 1
            continue
        states = status.get("containerStatuses") or [{}]
        ended = states[0].get("state", {}).get("terminated", {})
        reason = status.get("reason") or ended.get("exitCode", "unknown")
        outcomes[f"{status['phase']} {reason}"] += 1
        cluster.api.delete(f"/api/v1/namespaces/default/pods/{item['metadata']['name']}")
    return remaining


def plugin_in_proc(cluster: Cluster) -> Path:
    """Return the directory of the plugin's process in the node's procfs."""
    pid = cluster.node.processes["plugin"].pid
    return Path("/proc", str(cluster.node.inside.init), "root", "proc", str(pid))


def resident_kib(cluster: Cluster) -> int:
    """Return the resident memory of the plugin."""
    text = (plugin_in_proc(cluster) / "status").read_text("ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def open_descriptors(cluster: Cluster) -> int:
    """Return how many descriptors the plugin has."""
    return len(os.listdir(plugin_in_proc(cluster) / "fd"))


def test_a_thousand_pods_never_share_a_gpu_and_nothing_leaks(cluster: Cluster) -> None:
    outcomes: Counter[str] = Counter()
    created = 0
    memory: list[int] = []
    descriptors = open_descriptors(cluster)
    while sum(outcomes.values()) < PODS:
        remaining = forget_ended(cluster, outcomes)
        for _ in range(min(IN_FLIGHT - remaining, PODS - created)):
            create(cluster, f"pod-{created}", 1 + created % 2)
            created += 1
        memory.append(resident_kib(cluster))
    assert outcomes == {"Succeeded 0": PODS}
    half = len(memory) // 2
    assert max(memory[half:]) <= 1.05 * max(memory[:half])
    # Calls that are being answered have some for a moment.
    until(lambda: open_descriptors(cluster) <= descriptors + 2, "no descriptor is left open")
    assert [path.name for path in cluster.node.run_cdi.iterdir()] == [
        "k8s.device-plugin.nvidia.com-gpu.json"
    ]
    sockets = {path.name for path in cluster.node.device_plugins.iterdir() if path.is_socket()}
    assert sockets == {"kubelet.sock", "nvidia-gpu.sock"}


def test_after_fifty_deaths_of_each_every_pod_runs(cluster: Cluster) -> None:
    """A pod that the kubelet rejects is created again, as a controller does.

    A kubelet that has just started still counts the GPUs of a pod that was deleted shortly before,
    until it has the list of pods from the API server.
    """
    outcomes: Counter[str] = Counter()
    for number in range(DEATHS):
        if number % 3 != 1:
            cluster.node.processes["plugin"].stop(signal.SIGKILL)
        if number % 3 != 0:
            cluster.node.restart_kubelet(signal.SIGKILL)
        if number % 3 != 1:
            start_plugin(cluster)
        until(lambda: offered(cluster) == 8, "the GPUs are offered again")
        for attempt in range(ATTEMPTS):
            create(cluster, f"pod-{number}-{attempt}", 1 + number % 8)
            until(lambda: forget_ended(cluster, outcomes) == 0, "the pod has ended")
            if outcomes["Succeeded 0"] > number:
                break
    rejected = outcomes.pop("Failed UnexpectedAdmissionError", 0)
    print(f"{rejected} pods were rejected")
    assert outcomes == {"Succeeded 0": DEATHS}
    assert rejected <= DEATHS


def test_a_pod_keeps_its_gpus_while_kubelet_and_plugin_die(cluster: Cluster) -> None:
    """What it has is not given out again."""
    script = "ls /dev | grep -E '^nvidia[0-9]+$'; sleep 2147483647"
    cluster.apply(pod("keeps", "/bin/sh", "-c", script, limits={GPU: 6}))
    cluster.wait("keeps", "Running")
    kept = set(until(lambda: cluster.log("keeps"), "its output").split())
    for number in range(5):
        cluster.node.processes["plugin"].stop(signal.SIGKILL)
        cluster.node.restart_kubelet(signal.SIGKILL)
        start_plugin(cluster)
        until(lambda: offered(cluster) == 8, "the GPUs are offered again")
        name = f"other-{number}"
        cluster.apply(pod(name, "/bin/sh", "-c", "ls /dev | grep nvidia[0-9]", limits={GPU: 2}))
        cluster.wait(name, "Succeeded")
        others = set(cluster.log(name).split())
        assert len(others) == 2
        assert not others & kept, json.dumps(sorted(others & kept))
        cluster.delete(name)
