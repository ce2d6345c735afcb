# SPDX-License-Identifier: Apache-2.0
"""What a container is to have, worked out from the host's description and never from a spec."""

from __future__ import annotations

import posixpath
from typing import Any

from tests.fakehost.gpus import Gpu, Mig
from tests.fakehost.kernel import (
    DRM_MAJOR,
    MODESET_MINOR,
    NVIDIA_MAJOR,
    NVIDIACTL_MINOR,
    Kernel,
    instance_minor,
)
from tests.lab.probe import Answers

Nodes = dict[str, tuple[int, int]]
"""(major, minor) by path."""

C_LIBRARY = frozenset(
    f"lib{name}" for name in ("c.so.6", "dl.so.2", "m.so.6", "pthread.so.0", "rt.so.1")
) | {"ld-linux-x86-64.so.2"}
"""What every image with glibc has; a library that needs more cannot be loaded in the lab's."""


def nodes(answers: Answers) -> Nodes:
    """The device nodes among the answers to ``find``."""
    return {
        path: (int(fields[4]), int(fields[5]))
        for (verb, path), fields in answers.items()
        if verb == "find" and fields[0] in "cb"
    }


def control_nodes(kernel: Kernel) -> Nodes:
    """The nodes that belong to the driver and not to one GPU."""
    modeset = {"/dev/nvidia-modeset": (NVIDIA_MAJOR, MODESET_MINOR)} if kernel.modeset else {}
    return modeset | {
        "/dev/nvidiactl": (NVIDIA_MAJOR, NVIDIACTL_MINOR),
        "/dev/nvidia-uvm": (kernel.uvm_major, 0),
        "/dev/nvidia-uvm-tools": (kernel.uvm_major, 1),
    }


def by_path_links(answers: Answers) -> dict[str, str]:
    """What the links in /dev/dri/by-path say, among the answers to ``find``."""
    return {
        path: fields[-1]
        for (verb, path), fields in answers.items()
        if verb == "find" and fields[0] == "l" and path.startswith("/dev/dri/by-path/")
    }


def gpu_links(*gpus: Gpu) -> dict[str, str]:
    """The links that udev makes for full GPUs, and the hook in a container."""
    return {path: f"../{posixpath.basename(node)}" for gpu in gpus for path, (node, _) in _drm(gpu)}


def _drm(gpu: Gpu) -> list[tuple[str, tuple[str, int]]]:
    """(by-path name, (node, minor)) of each DRM node."""
    return [
        (f"/dev/dri/by-path/pci-{gpu.pci_address}-{kind}", (f"/dev/dri/{name}", minor))
        for name, minor, kind in (
            (f"card{gpu.drm_card}", gpu.drm_card, "card"),
            (f"renderD{gpu.drm_render}", gpu.drm_render, "render"),
        )
        if minor is not None
    ]


def gpu_nodes(*gpus: Gpu, hooked: bool = True) -> Nodes:
    """The nodes of full GPUs; without a hook, which makes links, also those by path."""
    found: Nodes = {}
    for gpu in gpus:
        found[f"/dev/nvidia{gpu.minor}"] = (NVIDIA_MAJOR, gpu.minor)
        for path, (node, minor) in _drm(gpu):
            found[node] = (DRM_MAJOR, minor)
            if not hooked:
                found[path] = (DRM_MAJOR, minor)
    return found


def mig_nodes(kernel: Kernel, gpu: Gpu, mig: Mig) -> Nodes:
    """The nodes of a MIG device: its GPU's and its two capabilities."""
    minors = (instance_minor(gpu.minor, mig.gi), instance_minor(gpu.minor, mig.gi, mig.ci))
    caps = {f"/dev/nvidia-caps/nvidia-cap{each}": (kernel.caps_major, each) for each in minors}
    return {f"/dev/nvidia{gpu.minor}": (NVIDIA_MAJOR, gpu.minor)} | caps


def sonames(inventory: dict[str, Any], *, bits: int = 64) -> list[str]:
    """The SONAMEs of the driver's libraries."""
    return sorted({each["soname"] for each in inventory["libraries"] if each["bits"] == bits})


def loadable(inventory: dict[str, Any]) -> list[str]:
    """The SONAMEs of 64-bit libraries that need nothing but the C library and each other."""
    libraries = {
        each["soname"]: set(each.get("needed", ()))
        for each in inventory["libraries"]
        if each["bits"] == 64
    }
    while True:
        lacking = [
            name for name, needed in libraries.items() if needed - libraries.keys() - C_LIBRARY
        ]
        if not lacking:
            return sorted(libraries)
        for name in lacking:
            del libraries[name]


def library_folders(inventory: dict[str, Any], *, hooked: bool) -> set[str]:
    """Where 64-bit libraries lie in a container."""
    if not hooked:
        # The last two have what an image may have of its own: libcuda and what it opens, NVML.
        triplet = f"{inventory['architecture']}-linux-gnu"
        return {"/usr/lib", "/usr/lib64", f"/usr/lib/{triplet}", "/usr/local/nvidia/lib64"}
    root = inventory.get("driverRoot", "")
    # The first has links, for linkers; musl searches it before what the hook tells it of.
    return {"/usr/lib"} | {
        posixpath.dirname(each["path"]).removeprefix(root)
        for each in inventory["libraries"]
        if each["bits"] == 64
    }
