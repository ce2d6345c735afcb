# SPDX-License-Identifier: Apache-2.0
"""Pods that compute on a GPU: their manifests, and what they print."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tests.gpu.kubernetes.gpu_node import IMAGE
from tests.lab.kubernetes.manifests import Manifest, pod
from tests.lab.kubernetes.standalone import ENDED, Standalone

GPU = "nvidia.com/gpu"
SECONDS = 60
"""Much longer than a pod takes to start or to be refused."""


class Work(NamedTuple):
    """What the program ``work`` printed; None where it did not come so far."""

    text: str
    begin: float | None
    end: float | None
    rate: float | None
    """Kernels a second."""
    multiprocessors: int | None
    granted: bool | None
    """Whether the large allocation succeeded."""


def parse_work(text: str) -> Work:
    """Return what ``work`` printed."""

    def number(pattern: str) -> float | None:
        match = re.search(pattern, text, re.MULTILINE)
        return float(match[1]) if match else None

    multiprocessors = number(r"multiprocessors (\d+)")
    allocation = re.search("^allocation of .*: (granted|refused)", text, re.MULTILINE)
    return Work(
        text=text,
        begin=number(r"^begin ([\d.]+)"),
        end=number(r"^end ([\d.]+)"),
        rate=number(r"^kernels \d+, ([\d.]+) a second"),
        multiprocessors=None if multiprocessors is None else int(multiprocessors),
        granted=None if allocation is None else allocation[1] == "granted",
    )


def overlap(one: Work, two: Work) -> float:
    """Return the seconds in which both computed."""
    if one.begin is None or one.end is None or two.begin is None or two.end is None:
        return 0
    return max(0, min(one.end, two.end) - max(one.begin, two.begin))


class Volume(NamedTuple):
    """A directory of the node in a container."""

    node: str
    container: str
    read_only: bool = False


def gpu_pod(
    name: str,
    *command: str,
    count: int = 1,
    environment: Mapping[str, str] | None = None,
    volumes: Sequence[Volume] = (),
    user: int | None = None,
    **spec: Any,
) -> Manifest:
    """Return a pod of ``IMAGE`` that requests so many GPUs."""
    limits = {GPU: count} if count else None
    manifest = pod(name, *command, image=IMAGE, limits=limits, **spec)
    manifest["spec"]["terminationGracePeriodSeconds"] = 1
    (container,) = manifest["spec"]["containers"]
    container["env"] = [{"name": key, "value": text} for key, text in (environment or {}).items()]
    names = {volume: f"volume-{index}" for index, volume in enumerate(volumes)}
    manifest["spec"]["volumes"] = [
        {"name": names[volume], "hostPath": {"path": volume.node}} for volume in volumes
    ]
    container["volumeMounts"] = [
        {"name": names[volume], "mountPath": volume.container, "readOnly": volume.read_only}
        for volume in volumes
    ]
    if user is not None:
        container["securityContext"] = {"runAsUser": user}
    return manifest


class Ended(NamedTuple):
    """How a pod ended, and what it printed."""

    phase: str
    reason: str
    text: str


def run(kubernetes: Standalone, *manifests: Manifest, seconds: float = SECONDS) -> list[Ended]:
    """Run pods at the same time to their ends, and delete them."""
    for manifest in manifests:
        kubernetes.apply(manifest)
    ends = [
        end_of(
            kubernetes,
            manifest["metadata"]["name"],
            seconds,
            manifest["metadata"]["namespace"],
        )
        for manifest in manifests
    ]
    for manifest in manifests:
        kubernetes.delete(manifest["metadata"]["name"])
    return ends


def end_of(
    kubernetes: Standalone, name: str, seconds: float = SECONDS, namespace: str = "default"
) -> Ended:
    """Wait for the end of a pod; a pod that has not ended is an outcome as well."""
    limit = time.monotonic() + seconds
    status: dict[str, Any] = {}
    while time.monotonic() < limit and status.get("phase") not in ENDED:
        status = kubernetes.pod(name).get("status", {})
        time.sleep(0.1)
    try:
        text = kubernetes.log(name, namespace=namespace)
    except OSError as error:
        text = f"no log: {error}"
    reason = f"{status.get('reason', '')} {status.get('message', '')}".strip()
    return Ended(status.get("phase", "unknown"), reason, text)
