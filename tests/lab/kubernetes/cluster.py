# SPDX-License-Identifier: Apache-2.0
"""A cluster of one node: control plane, kubelet and container engine, all of them real.

with cluster("v1.37.2", "1.7") as kubernetes:
    kubernetes.apply(pod("hello", "echo", "hello"))
    kubernetes.wait("hello", "Succeeded")
    print(kubernetes.log("hello"))
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from tests.lab.kubernetes import configuration, control_plane, programs
from tests.lab.kubernetes.manifests import Manifest
from tests.lab.kubernetes.network import Api, ApiError
from tests.lab.kubernetes.node import Node, node
from tests.lab.kubernetes.standalone import ENDED, wait
from tests.lab.kubernetes.waiting import SECONDS, until

_PODS = "/api/v1/namespaces/default/pods"


class Cluster:
    """A running cluster; threads may share it.

    Attributes:
        node: its node, on which everything runs.
        api: the API server, asked by the administrator: faster than ``kubectl``.
    """

    def __init__(self, machine: Node, api: Api) -> None:
        self.node = machine
        self.api = api

    def kubectl(
        self, *words: str, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl in the node, as the administrator."""
        command = ("kubectl", f"--kubeconfig={control_plane.kubeconfig('admin')}", *words)
        return self.node.run(*command, stdin=stdin, check=check)

    def apply(self, manifest: Manifest) -> None:
        """``kubectl apply`` a manifest, of any kind."""
        self.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))

    def restart_kubelet(self) -> None:
        """Kill kubelet, start it again, and wait until it has the pods of the API server.

        Before, it does not know which pods are gone, and gives their devices to no other.
        """
        kubelet = self.node.processes["kubelet"]
        printed = len(kubelet.text())
        self.node.restart_kubelet()
        sign = '"SyncLoop ADD" source="api"'
        until(lambda: sign in kubelet.text()[printed:], "kubelet has the pods of the API server")

    def delete(self, name: str) -> None:
        """Delete a pod without a grace period, and wait until it is gone."""
        self.api.delete(f"{_PODS}/{name}")
        until(lambda: not self.pod(name), f"pod {name} is gone")

    def pod(self, name: str) -> dict[str, Any]:
        """Return a pod with its status; an empty one if there is none."""
        try:
            pod: dict[str, Any] = self.api.get(f"{_PODS}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            return {}
        return pod

    def wait(self, name: str, *phases: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait until a pod is in one of the phases, by default ended; returns it.

        Raises:
            TimeoutError: it is in another phase all the time.
            RuntimeError: it ended in another phase, or kubelet ended.
        """
        return wait(self, name, phases or ENDED, seconds)

    def log(self, name: str, container: str = "main") -> str:
        """Return what a container of a pod printed."""
        return self.api.call("GET", f"{_PODS}/{name}/log?container={container}")

    def node_object(self) -> dict[str, Any]:
        """Return the node as the API server has it: labels, conditions, allocatable resources."""
        found: dict[str, Any] = self.api.get(f"/api/v1/nodes/{configuration.NODE}")
        return found

    def allocatable(self, resource: str) -> int:
        """Return how much of a resource the scheduler may give to pods of the node."""
        return int(self.node_object()["status"]["allocatable"].get(resource, 0))


@contextlib.contextmanager
def cluster(
    version: str = programs.VERSIONS[0],
    engine: str = "2.2",
    *,
    kubelet: Mapping[str, Any] | None = None,
    **furniture: Any,
) -> Iterator[Cluster]:
    """Enter a cluster that runs pods.

    Args:
        version: of Kubernetes, one of ``programs.VERSIONS``.
        engine: the release of containerd, 2.2 or 1.7, or ``container_engines.CRIO``.
        kubelet: keys of kubelet's configuration file that differ from the lab's.
        furniture: for ``node``.

    Raises:
        LabUnavailableError: this machine cannot have it; the message says why.
    """
    binds = {
        "/usr/local/bin/kubelet": programs.kubernetes("kubelet", version),
        **control_plane.paths(version),
        **(furniture.pop("binds", None) or {}),
    }
    with node(engine, binds=binds, **furniture) as machine:
        api = control_plane.start(machine)
        machine.kubelet(f"--kubeconfig={control_plane.kubeconfig('node')}", changes=kubelet)
        kubernetes = Cluster(machine, api)
        until(lambda: _takes_pods(kubernetes), "the node takes pods")
        yield kubernetes


def _takes_pods(kubernetes: Cluster) -> bool:
    """Whether the node is ready, without taints, and pods find their service account."""
    try:
        found = kubernetes.node_object()
        kubernetes.api.get("/api/v1/namespaces/default/serviceaccounts/default")
    except ApiError:
        return False
    conditions = {one["type"]: one["status"] for one in found["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not found["spec"].get("taints")
