# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen who` on a node: pods by what containerd and CRI-O write, devices by the kubelet's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from cdi_gen.refresh.settings import Layout
from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import packages
from tests.lab.kubernetes.container_engines import CRIO
from tests.lab.kubernetes.manifests import pod
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until

WHO = (*packages.CDI_GEN, "who", "-o", "json")


@pytest.mark.parametrize(("engine", "name"), [("2.2", "containerd"), (CRIO, "cri-o")])
def test_pod_and_its_allocation(
    enter_standalone: Callable[..., AbstractContextManager[Standalone]],
    with_gpus: Callable[[FakeHost], dict[str, Any]],
    own_host: Callable[[str], FakeHost],
    engine: str,
    name: str,
) -> None:
    with enter_standalone(engine=engine, **with_gpus(own_host("550-server"))) as kubernetes:
        node = kubernetes.node
        words = ("kubernetes", "device-plugin")
        environment = packages.ENVIRONMENT | {"METRICS_ADDRESS": "127.0.0.1:9401"}
        plugin = node.start("plugin", *packages.CDI_GEN, *words, env=environment)
        until(lambda: "CDG-N110" in plugin.text(), "the plugin registers")
        kubernetes.apply(pod("cuda", "/bin/sleep", "100000", limits={"nvidia.com/gpu": 2}))
        kubernetes.wait("cuda", "Running")
        ended = node.run(*WHO, env=packages.ENVIRONMENT, check=False)
        assert ended.stdout, ended.stderr
        document = json.loads(ended.stdout)
        (entry,) = document["containers"]
        assert (entry["engine"], entry["name"]) == (name, "main")
        assert entry["pod"]["namespace"] == "default"
        assert entry["pod"]["name"].startswith("cuda")
        assert entry["image"]
        uuids = {device["uuid"] for device in entry["devices"]}
        assert len(uuids) == 2
        (allocation,) = entry["allocations"]
        assert allocation["resource"] == "nvidia.com/gpu"
        assert set(allocation["ids"]) == uuids
        assert (ended.returncode, document["unseen"], entry["unseen"]) == (0, [], [])
        assert device_plugin_state(node) == {
            "sockets": 1,
            "kubelet_answers": True,
            "plugin_answers": True,
            "resources": [
                {
                    "name": "nvidia.com/gpu",
                    "allocatable": 4,
                    "allocated": 2,
                    "healthy": 4,
                    "unhealthy": 0,
                }
            ],
        }
        plugin.stop()
        # The kubelet knows the resource, but has no device of it any more.
        until(
            lambda: device_plugin_state(node)["resources"][0]["allocatable"] == 0, "it is noticed"
        )
        state = device_plugin_state(node)
        assert state["plugin_answers"] is False
        (resource,) = state["resources"]
        assert (resource["allocated"], resource["healthy"]) == (2, None)


def device_plugin_state(node: Node) -> dict[str, Any]:
    """What the process of `cdi-gen metrics` finds out."""
    request = {
        "name": "device-plugin",
        "layout": Layout()._asdict(),
        "plugin_metrics": "http://127.0.0.1:9401/metrics",
        "seconds": 60,
    }
    command = ("/usr/bin/python3", "-m", "cdi_gen.metrics.own")
    answer = node.run(*command, env=packages.ENVIRONMENT, stdin=json.dumps(request))
    return dict(json.loads(answer.stdout)["state"])
