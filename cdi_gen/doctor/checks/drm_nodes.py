# SPDX-License-Identifier: Apache-2.0
"""The nodes in /dev/dri: those of other boots, and those that a GPU lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host

NAMES = ("card", "renderD", "controlD")


def examine(host: Host) -> Iterator[Finding]:
    """Yield nodes without a device, and devices of GPUs without a node."""
    directory = "/dev/dri"
    names = host.entries(directory)
    if names is None:
        raise NotApplicable("no /dev/dri")
    if host.is_container:
        raise NotApplicable("a container has the nodes that its engine gave it")
    stale = [
        name
        for name in names
        if name.rstrip("0123456789") in NAMES
        and not host.exists(f"/sys/class/drm/{name}")
        and host.is_device(f"{directory}/{name}")
    ]
    if stale:
        paths = " ".join(f"{directory}/{name}" for name in stale)
        yield Finding(
            "CDG-A063",
            "warning",
            f"no GPU has the nodes {paths}: they are of an earlier boot or another container, and "
            "rootless engines fail to stat or open them",
            subject=f"{directory}/{stale[0]}",
            fix=f"sudo rm {paths} && sudo cdi-gen refresh",
        )
    absent = [path for path in host.fact("drm", lambda: _nodes(host)) if not host.exists(path)]
    if absent:
        yield Finding(
            "CDG-H201",
            "warning",
            f"{', '.join(absent)} of a GPU does not exist: graphics cannot use it",
            subject=absent[0],
            fix="sudo udevadm trigger --subsystem-match=drm --action=add && sudo cdi-gen refresh",
        )


def _nodes(host: Host) -> Any:
    """Return the paths of the nodes that sysfs has for NVIDIA's GPUs."""
    paths = []
    for gpu in host.pci_gpus:
        pattern = f"/sys/bus/pci/devices/{gpu.address}/drm/*"
        names = (path.rpartition("/")[2] for path in host.root.expand(pattern))
        paths += [f"/dev/dri/{name}" for name in names if name.rstrip("0123456789") in NAMES[:2]]
    return paths


CHECK = Check("drm-nodes", "device-nodes", "each node in /dev/dri is a GPU's", examine)
