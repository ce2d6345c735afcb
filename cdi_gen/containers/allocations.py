# SPDX-License-Identifier: Apache-2.0
"""Returns which devices the kubelet has allocated to which containers of pods."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cdi_gen.containers.model import Allocation, Container

POD_RESOURCES = "/var/lib/kubelet/pod-resources/kubelet.sock"

Allocations = Mapping[tuple[str, str, str], tuple[Allocation, ...]]
"""By namespace, pod and container."""


def of_kubelet(host_root: str = "/") -> tuple[Allocations, str]:
    """Return what the kubelet has allocated, and why that is not known; empty if it is.

    Without the extra ``kubernetes``, and on a host without a kubelet, nothing is allocated.
    """
    socket = f"{host_root.rstrip('/')}{POD_RESOURCES}"
    if not os.path.exists(socket):
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


def of_container(container: Container, allocations: Allocations) -> tuple[Allocation, ...]:
    """Return what is allocated to a container."""
    pod = container.origin.pod
    return allocations.get((pod.namespace, pod.name, pod.container), ()) if pod else ()
