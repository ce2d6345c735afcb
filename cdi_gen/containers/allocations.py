# SPDX-License-Identifier: Apache-2.0
"""Returns which devices the kubelet has allocated to which containers of pods."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cdi_gen.containers.model import Allocation, Container
from cdi_gen.host.kubelet_directories import DIRECTORIES
from cdi_gen.host.roots import Root

POD_RESOURCES = "pod-resources/kubelet.sock"
"""In the kubelet's directory."""

Allocations = Mapping[tuple[str, str, str], tuple[Allocation, ...]]
"""By namespace, pod and container."""


def of_kubelet(host_root: str = "/") -> tuple[Allocations, str]:
    """Return what the kubelet has allocated, and why that is not known; empty if it is.

    Without the extra ``kubernetes``, and on a host without a kubelet, nothing is allocated.
    """
    socket = _socket(host_root)
    if socket is None:
        return {}, ""
    try:
        from cdi_gen.kubernetes import pod_resources  # noqa: PLC0415 - loads gRPC, an extra
    except ImportError:
        return {}, ""
    try:
        answers = pod_resources.allocations(socket)
    except pod_resources.KubeletError as error:
        return {}, f"allocations of the kubelet: {error}"
    # The kubelet lists devices of another NUMA node apart.
    ids: dict[tuple[str, str, str], dict[str, tuple[str, ...]]] = {}
    for answer in answers:
        by_resource = ids.setdefault((answer.namespace, answer.pod, answer.container), {})
        by_resource[answer.resource] = (*by_resource.get(answer.resource, ()), *answer.ids)
    return {
        key: tuple(
            Allocation(resource=resource, ids=values) for resource, values in by_resource.items()
        )
        for key, by_resource in ids.items()
    }, ""


def _socket(host_root: str) -> str | None:
    """Return the path of the kubelet's socket for this process; None: the host has no kubelet.

    Links lead to files of the host: they are what there is for a kubelet with a directory of its
    own (``--root-dir``).
    """
    root = Root(seen_from=host_root)
    for directory in DIRECTORIES:
        try:
            path = root.open_path(root.resolve(f"{directory}/{POD_RESOURCES}"))
        except OSError:
            continue
        if os.path.exists(path):
            return path
    return None


def of_container(container: Container, allocations: Allocations) -> tuple[Allocation, ...]:
    """Return what is allocated to a container.

    A container in a container is not the kubelet's, whatever its engine wrote there.
    """
    pod = container.origin.pod if container.within is None else None
    return allocations.get((pod.namespace, pod.name, pod.container), ()) if pod else ()
