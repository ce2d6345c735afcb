# SPDX-License-Identifier: Apache-2.0
"""The programs of NVIDIA's k8s-device-plugin, built from its Go module, to compare with."""

from __future__ import annotations

from pathlib import Path

from tests.lab import go

MODULE = "github.com/NVIDIA/k8s-device-plugin"
VERSION = "v0.19.1"
"""The newest release that Go's module proxy serves: it refuses 0.19.2, 0.20.0 and 0.20.1."""

PROGRAMS = ("nvidia-device-plugin", "gpu-feature-discovery", "mps-control-daemon")


def program(name: str) -> Path:
    """A program of ``PROGRAMS``.

    Raises:
        LabUnavailableError: Go or a C compiler is missing, or Go does not get or build it.
    """
    version = {f"{MODULE}/internal/info.version": VERSION.removeprefix("v")}
    return go.program(MODULE, VERSION, f"cmd/{name}", variables=version, cgo=True)
