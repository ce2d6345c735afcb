# SPDX-License-Identifier: Apache-2.0
"""The programs of NVIDIA's k8s-device-plugin, built from its Go module, to compare with.

with cluster(**nvidia_device_plugin.furniture(fake)) as kubernetes:
    plugin = kubernetes.node.start("nvidia", *DEVICE_PLUGIN, "--device-list-strategy=cdi-cri",
                                   env=ENVIRONMENT)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakehost.hosts import FakeHost
from tests.lab import go
from tests.lab.kubernetes import gpu_host

MODULE = "github.com/NVIDIA/k8s-device-plugin"
VERSION = "v0.19.1"
"""The newest release that Go's module proxy serves: it refuses 0.19.2, 0.20.0 and 0.20.1."""

_ALSO = {"github.com/NVIDIA/nvidia-container-toolkit": "v1.19.1"}
"""0.19.1 requires a commit shortly before this release, and the proxy has no checksum of it."""

PROGRAMS = ("nvidia-device-plugin", "gpu-feature-discovery", "mps-control-daemon")


def program(name: str) -> Path:
    """A program of ``PROGRAMS``.

    Raises:
        LabUnavailableError: Go or a C compiler is missing, or Go does not get or build it.
    """
    version = {f"{MODULE}/internal/info.version": VERSION.removeprefix("v")}
    return go.program(MODULE, VERSION, f"cmd/{name}", variables=version, also=_ALSO, cgo=True)


DEVICE_PLUGIN = ("nvidia-device-plugin", "--driver-root-ctr-path=/")
FEATURE_DISCOVERY = ("gpu-feature-discovery", "--use-node-feature-api=false", "--output-file=")
"""Prints the labels; with ``--oneshot``, once."""
ENVIRONMENT = {"DP_DISABLE_HEALTHCHECKS": "all"}
"""The NVML of fake hosts has no events, nor the topology that a preferred allocation needs."""


def furniture(fake: FakeHost) -> dict[str, Any]:
    """Return the arguments of ``gpu_host.furniture``, with the programs; see ``program``."""
    arguments = gpu_host.furniture(fake)
    arguments["binds"] |= {f"/usr/local/bin/{name}": program(name) for name in PROGRAMS}
    return arguments
