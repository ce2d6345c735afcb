# SPDX-License-Identifier: Apache-2.0
"""The label of a node and its Events, with a real API server and the roles that are needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import configuration, control_plane, gpu_host, packages, programs
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.waiting import until

GPU = "nvidia.com/gpu"
NODE = configuration.NODE
ACCESS = "/etc/kubernetes/plugin.kubeconfig"
CONFIGS = "/etc/cdi-gen-configs"
CONFIG = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 3}]}}\n"
SEND = f"""
import time
from cdi_base.findings import Finding
from cdi_gen.kubernetes.access import find_access
from cdi_gen.kubernetes.api import Api
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.node_events import NodeEvents
events = NodeEvents(Api(find_access({ACCESS!r})), {NODE!r}, print)
reason = Finding("CDG-N203", "error", "GPU-1 must not be used: Xid 79")
events.health_changed(Change("GPU-1", healthy=False, finding=reason))
time.sleep(3)
"""

EnterCluster = Callable[..., AbstractContextManager[Cluster]]


@pytest.fixture(scope="module")
def cluster(enter_cluster: EnterCluster, host: Callable[[str], FakeHost]) -> Iterator[Cluster]:
    """A node, and a service account with the role of the device plugin."""
    furniture = gpu_host.furniture(host("550-8gpu"))
    with enter_cluster(programs.VERSIONS[-1], "2.2", **furniture) as entered:
        entered.kubectl("create", "serviceaccount", "plugin")
        token = entered.kubectl("create", "token", "plugin").stdout.strip()
        config = json.loads(
            configuration.kubeconfig("admin", f"{control_plane.KEYS}/apiserver.crt")
        )
        config["users"][0]["user"]["token"] = token
        entered.node.inside.write(ACCESS, json.dumps(config))
        entered.node.inside.write(f"{CONFIGS}/default", "version: v1\n")
        entered.node.inside.write(f"{CONFIGS}/shared", CONFIG)
        yield entered


def test_the_label_chooses_the_config(cluster: Cluster) -> None:
    words = ("kubernetes", "device-plugin", "--config-directory", CONFIGS, "--node-name", NODE)
    process = cluster.node.start(
        "plugin", *packages.CDI_GEN, *words, "--kubeconfig", ACCESS, env=packages.ENVIRONMENT
    )
    until(lambda: "refuses" in process.text(), "the role is missing")
    verbs = "--verb=get,list,watch"
    cluster.kubectl("create", "clusterrole", "plugin", verbs, "--resource=nodes")
    bound = ("--clusterrole=plugin", "--serviceaccount=default:plugin")
    cluster.kubectl("create", "clusterrolebinding", "plugin", *bound)
    until(lambda: cluster.allocatable(GPU) == 8, "the plugin has the label")
    cluster.kubectl("label", "node", NODE, "nvidia.com/device-plugin.config=shared")
    until(lambda: cluster.allocatable(GPU) == 24, "the config of the label is used")
    cluster.kubectl("label", "node", NODE, "nvidia.com/device-plugin.config-")
    until(lambda: cluster.allocatable(GPU) == 8, "the default is used again")
    assert process.stop() == 0


def test_an_event_is_seen_at_the_node(cluster: Cluster) -> None:
    cluster.kubectl("create", "role", "events", "--verb=create", "--resource=events")
    bound = ("--role=events", "--serviceaccount=default:plugin")
    cluster.kubectl("create", "rolebinding", "events", *bound)
    cluster.node.run("/usr/bin/python3", "-c", SEND, env=packages.ENVIRONMENT)
    described = cluster.kubectl("describe", "node", NODE).stdout
    line = next(line for line in described.splitlines() if "DeviceUnhealthy" in line)
    assert line.split()[0] == "Warning"
    assert line.endswith("GPU-1 must not be used: Xid 79 [CDG-N203]")
