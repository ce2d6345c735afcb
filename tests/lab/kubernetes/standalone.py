# SPDX-License-Identifier: Apache-2.0
"""A kubelet without an API server, which runs the pods of a directory: the fast way to try a pod."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from tests.lab.kubernetes import configuration, programs
from tests.lab.kubernetes.manifests import Manifest
from tests.lab.kubernetes.network import ApiError
from tests.lab.kubernetes.node import Node, node
from tests.lab.kubernetes.waiting import SECONDS, until

_KUBELET = "https://127.0.0.1:10250"
ENDED = ("Succeeded", "Failed")


class Standalone:
    """A node whose kubelet runs static pods.

    A static pod with a limit for a resource that no plugin ever registered runs without it: wait
    for the plugin first.

    Attributes:
        node: the node.
    """

    def __init__(self, machine: Node) -> None:
        self.node = machine

    def apply(self, manifest: Manifest) -> None:
        """Have kubelet run a pod."""
        name = manifest["metadata"]["name"]
        self.node.inside.write(f"{configuration.STATIC_PODS}/{name}.json", json.dumps(manifest))

    def delete(self, name: str) -> None:
        """Have kubelet end and forget a pod, and wait for it."""
        self.node.run("rm", f"{configuration.STATIC_PODS}/{name}.json")
        until(lambda: not self._pods(name), f"pod {name} is gone")

    def pod(self, name: str) -> dict[str, Any]:
        """Return a pod with its status; an empty one that kubelet does not know."""
        return next(iter(self._pods(name)), {})

    def wait(self, name: str, *phases: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait until a pod is in one of the phases, by default ended; returns it.

        Raises:
            TimeoutError: it is in another phase all the time.
            RuntimeError: it ended in another phase, or kubelet ended.
        """
        return wait(self, name, phases or ENDED, seconds)

    def log(self, name: str, container: str = "main", namespace: str = "default") -> str:
        """Return what a container of a pod printed."""
        path = f"/containerLogs/{namespace}/{name}-{configuration.NODE}/{container}"
        return self.node.network.get(f"{_KUBELET}{path}")

    def _pods(self, name: str) -> list[dict[str, Any]]:
        pods = json.loads(self.node.network.get(f"{_KUBELET}/pods"))["items"] or []
        full_name = f"{name}-{configuration.NODE}"
        return [pod for pod in pods if pod["metadata"]["name"] == full_name]


class RunsPods(Protocol):
    """What ``Standalone`` and ``Cluster`` have in common."""

    node: Node

    def pod(self, name: str) -> dict[str, Any]:
        """Return a pod with its status; an empty one if there is none."""

    def log(self, name: str, container: str = "main") -> str:
        """Return what a container of a pod printed."""


def wait(runs: RunsPods, name: str, phases: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Wait until a pod is in one of the phases; see ``Standalone.wait``."""

    def reached() -> dict[str, Any] | None:
        runs.node.check_alive("kubelet")
        pod = runs.pod(name)
        status = pod.get("status", {})
        if status.get("phase") in phases:
            return pod
        if status.get("phase") in ENDED:
            raise RuntimeError(f"pod {name} ended: {status}\nlog: {_log_of(runs, name)}")
        return None

    return until(reached, f"pod {name} is {' or '.join(phases)}", seconds=seconds)


def _log_of(runs: RunsPods, name: str) -> str:
    try:
        return runs.log(name)
    except (OSError, ApiError) as error:
        return str(error)


@contextlib.contextmanager
def standalone(
    version: str = programs.VERSIONS[0],
    engine: str = "2.2",
    *,
    kubelet: Mapping[str, Any] | None = None,
    **furniture: Any,
) -> Iterator[Standalone]:
    """Enter a node with a running kubelet and no API server: ready within seconds.

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
        **(furniture.pop("binds", None) or {}),
    }
    with node(engine, binds=binds, **furniture) as machine:
        machine.kubelet(changes=kubelet)
        yield Standalone(machine)
