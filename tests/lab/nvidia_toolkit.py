# SPDX-License-Identifier: Apache-2.0
"""The NVIDIA Container Toolkit's own programs, built from its Go module, to compare with."""

from __future__ import annotations

from pathlib import Path

from tests.lab import go

MODULE = "github.com/NVIDIA/nvidia-container-toolkit"
VERSION = "v1.20.2"
"""The newest release; a nightly test asks Go's module proxy for a newer one."""


def program(name: str) -> Path:
    """A program of the toolkit: nvidia-ctk, nvidia-cdi-hook, nvidia-container-runtime …

    Raises:
        LabUnavailableError: Go or a C compiler is missing, or Go does not get or build it.
    """
    version = {f"{MODULE}/internal/info.version": VERSION.removeprefix("v")}
    return go.program(MODULE, VERSION, f"cmd/{name}", variables=version, cgo=True)
