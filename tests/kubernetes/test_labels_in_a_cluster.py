# SPDX-License-Identifier: Apache-2.0
"""The labels with a real API server: what is stored, and which roles are needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import configuration, control_plane, gpu_host, packages, programs
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.network import ApiError
from tests.lab.kubernetes.waiting import until

NODE = configuration.NODE
FEATURES = "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/default/nodefeatures"
FEATURE = f"{FEATURES}/nvidia-features-for-{NODE}"
ADMIN = ("--kubeconfig", control_plane.ADMIN)

# As much of Node Feature Discovery's definition as a NodeFeature object of ours needs.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
FEATURE_SETS = {
    "type": "object",
    "properties": dict.fromkeys(("flags", "attributes", "instances"), ANYTHING),
}
SPEC = {"type": "object", "properties": {"features": FEATURE_SETS, "labels": TEXTS}}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "nodefeatures.nfd.k8s-sigs.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
    },
    "spec": {
        "group": "nfd.k8s-sigs.io",
        "names": {"kind": "NodeFeature", "plural": "nodefeatures", "singular": "nodefeature"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {"spec": SPEC},
                    }
                },
            }
        ],
    },
}

EnterCluster = Callable[..., AbstractContextManager[Cluster]]


@pytest.fixture(scope="module")
def cluster(enter_cluster: EnterCluster, host: Callable[[str], FakeHost]) -> Iterator[Cluster]:
    furniture = gpu_host.furniture(host("550-mig-mixed"))
    with enter_cluster(programs.VERSIONS[-1], "2.2", **furniture) as entered:
        yield entered


def command(*words: str) -> tuple[str, ...]:
    return (*packages.CDI_GEN, "kubernetes", "labels", "--node-name", NODE, *words)


def label_once(cluster: Cluster, *words: str) -> Any:
    once = command("--oneshot", *words)
    return cluster.node.run(*once, env=packages.ENVIRONMENT, check=False)


def node_labels(cluster: Cluster) -> dict[str, str]:
    labels: dict[str, str] = cluster.node_object()["metadata"]["labels"]
    return labels


def test_the_node_has_the_labels_of_the_last_time(cluster: Cluster) -> None:
    before = node_labels(cluster)
    done = label_once(cluster, "--patch-node", "--mig-strategy=mixed", *ADMIN)
    assert done.returncode == 0, done.stderr
    mixed = node_labels(cluster)
    assert before.items() <= mixed.items()
    assert mixed["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-40GB"
    assert mixed["nvidia.com/mig-1c.3g.20gb.count"] == "3"
    done = label_once(cluster, "--patch-node", *ADMIN)
    assert done.returncode == 0, done.stderr
    labels = node_labels(cluster)
    assert before.items() <= labels.items()
    assert labels["nvidia.com/gpu.count"] == "3"
    assert not [name for name in labels if "/mig-" in name]


def test_a_role_that_may_patch_nodes_is_enough(cluster: Cluster) -> None:
    cluster.kubectl("create", "serviceaccount", "labels")
    token = cluster.kubectl("create", "token", "labels").stdout.strip()
    text = configuration.kubeconfig("admin", f"{control_plane.KEYS}/apiserver.crt")
    config = json.loads(text)
    config["users"][0]["user"]["token"] = token
    cluster.node.inside.write("/etc/kubernetes/labels.kubeconfig", json.dumps(config))
    words = ("--patch-node", "--kubeconfig", "/etc/kubernetes/labels.kubeconfig")
    done = label_once(cluster, *words)
    assert done.returncode == 1
    assert "system:serviceaccount:default:labels" in done.stderr
    assert "give the service account a role" in done.stderr
    cluster.kubectl("create", "clusterrole", "labels", "--verb=patch", "--resource=nodes")
    bound = ("--clusterrole=labels", "--serviceaccount=default:labels")
    cluster.kubectl("create", "clusterrolebinding", "labels", *bound)
    until(lambda: label_once(cluster, *words).returncode == 0, "the role is in force")


def test_the_node_feature_object_is_kept(cluster: Cluster) -> None:
    done = label_once(cluster, *ADMIN)
    assert done.returncode == 1
    assert "install Node Feature Discovery" in done.stderr
    cluster.apply(DEFINITION)

    def feature() -> Any:
        try:
            return cluster.api.get(FEATURE)
        except ApiError:
            return None  # there is none yet

    words = command("--sleep-interval", "1s", *ADMIN)
    process = cluster.node.start("labels", *words, env=packages.ENVIRONMENT)
    first = until(feature, "the object is created")
    assert first["metadata"]["labels"] == {"nfd.node.kubernetes.io/node-name": NODE}
    assert first["spec"]["labels"]["nvidia.com/gpu.count"] == "3"
    version = first["metadata"]["resourceVersion"]
    cluster.api.delete(FEATURE)
    second = until(feature, "the object is created again")
    assert second["metadata"]["resourceVersion"] != version
    assert json.dumps(second["spec"], sort_keys=True) == json.dumps(first["spec"], sort_keys=True)
    assert process.stop() == 0
    assert feature() is not None
