# SPDX-License-Identifier: Apache-2.0
"""``helm install``, ``upgrade`` and ``uninstall`` of the chart in a real cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.lab.kubernetes import control_plane
from tests.lab.kubernetes.charts import CHART, NAMESPACE, Charts
from tests.lab.kubernetes.cluster import Cluster

RELEASE = ("cdi-gen", "/chart", f"--namespace={NAMESPACE}")


@pytest.fixture(scope="module")
def cluster(
    enter_cluster: Callable[..., AbstractContextManager[Cluster]], charts: Charts
) -> Iterator[Cluster]:
    with enter_cluster(binds={"/usr/local/bin/helm": charts.helm, "/chart": CHART}) as entered:
        yield entered


def helm(cluster: Cluster, *words: str) -> str:
    kubeconfig = control_plane.kubeconfig("admin")
    return cluster.node.run("helm", f"--kubeconfig={kubeconfig}", *words).stdout


def runtime_classes(cluster: Cluster) -> dict[str, str]:
    """Return the handlers of the RuntimeClasses, by name."""
    items = cluster.api.get("/apis/node.k8s.io/v1/runtimeclasses")["items"]
    return {item["metadata"]["name"]: item["handler"] for item in items}


def test_a_runtime_class_that_the_cluster_has_is_kept(cluster: Cluster) -> None:
    """k3s and the GPU Operator create the class nvidia; helm refuses to adopt it."""
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"}
    cluster.apply({**kind, "metadata": {"name": "nvidia"}, "handler": "nvidia"})
    every_class = {name: name for name in ("nvidia", "nvidia-cdi", "nvidia-legacy")}

    helm(cluster, "install", *RELEASE, "--create-namespace", "--set=nodeSetup.enabled=true")
    assert runtime_classes(cluster) == every_class
    helm(cluster, "upgrade", *RELEASE, "--reuse-values", "--set=podLabels.team=a")
    assert runtime_classes(cluster) == every_class
    helm(cluster, "uninstall", "cdi-gen", f"--namespace={NAMESPACE}")
    assert runtime_classes(cluster) == {"nvidia": "nvidia"}
