# SPDX-License-Identifier: Apache-2.0
"""Manifests as Kubernetes' users write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.lab.kubernetes.node import BUSYBOX

Manifest = dict[str, Any]


def pod(
    name: str,
    *command: str,
    image: str = BUSYBOX,
    limits: Mapping[str, int | str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Manifest:
    """Return a pod that runs one container, called ``main``, once.

    Args:
        name: of the pod.
        command: of the container; nothing, for the image's own.
        image: of the container.
        limits: its resources, ``{"nvidia.com/gpu": 1}`` say; what it requests is the same.
        annotations: of the pod.
        spec: more fields of the pod's specification.
    """
    container: dict[str, Any] = {"name": "main", "image": image}
    if command:
        container["command"] = list(command)
    if limits:
        container["resources"] = {"limits": dict(limits)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": dict(annotations or {})},
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }
