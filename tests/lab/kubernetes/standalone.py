# SPDX-License-Identifier: Apache-2.0
"""A kubelet without an API server, which runs the pods of a directory: the fast way to try a pod."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.lab.kubernetes import configuration, programs
from tests.lab.kubernetes.manifests import Manifest
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
        """
        wanted = phases or ENDED

        def reached() -> dict[str, Any] | None:
            self.node.check_alive("kubelet")
            pod = self.pod(name)
            return pod if pod and pod["status"].get("phase") in wanted else None

        return until(reached, f"pod {name} is {' or '.join(wanted)}", seconds=seconds)

    def log(self, name: str, container: str = "main") -> str:
        """Return what a container of a pod printed."""
        path = f"/containerLogs/default/{name}-{configuration.NODE}/{container}"
        return self.node.network.get(f"{_KUBELET}{path}")

    def _pods(self, name: str) -> list[dict[str, Any]]:
        pods = json.loads(self.node.network.get(f"{_KUBELET}/pods"))["items"] or []
        full_name = f"{name}-{configuration.NODE}"
        return [pod for pod in pods if pod["metadata"]["name"] == full_name]


@contextlib.contextmanager
def standalone(
    version: str = programs.VERSIONS[0],
    containerd: str = "2.2",
    *,
    kubelet: Mapping[str, Any] | None = None,
    **furniture: Any,
) -> Iterator[Standalone]:
    """Enter a node with a running kubelet and no API server: ready within seconds.

    Args:
        version: of Kubernetes, one of ``programs.VERSIONS``.
        containerd: its release, 2.2 or 1.7.
        kubelet: keys of kubelet's configuration file that differ from the lab's.
        furniture: for ``node``.

    Raises:
        LabUnavailableError: this machine cannot have it; the message says why.
    """
    binds = {
        "/usr/local/bin/kubelet": programs.kubernetes("kubelet", version),
        **(furniture.pop("binds", None) or {}),
    }
    with node(containerd, binds=binds, **furniture) as machine:
        machine.kubelet(changes=kubelet)
        yield Standalone(machine)
