# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen who` on a node: pods by what containerd and CRI-O write, devices by the kubelet's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import packages
from tests.lab.kubernetes.container_engines import CRIO
from tests.lab.kubernetes.manifests import pod
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
        plugin = node.start("plugin", *packages.CDI_GEN, *words, env=packages.ENVIRONMENT)
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
