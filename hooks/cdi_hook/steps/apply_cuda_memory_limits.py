# SPDX-License-Identifier: Apache-2.0
"""apply-cuda-memory-limits: a limit that this program cannot set is refused, and not passed over.

Specs of nvidia-ctk (1.20.2 and later) have this createRuntime hook for each GPU. It does nothing
unless the container's environment asks for a share of the GPU's memory; then it sets the limits by
NVML, which no hook of ours loads. A container that asked would believe itself, and others, limited.
"""

from __future__ import annotations

from cdi_base import oci_config, oci_state, process
from cdi_base.errors import HookError, shown
from cdi_hook import arguments

NAME = "apply-cuda-memory-limits"
VARIABLES = ("NVIDIA_GPU_MEMORY_REQUEST", "NVIDIA_GPU_MEMORY_LIMIT")
OPTIONS = ("--driver-root", "--gpu-id", "--container-spec")


def refuse(words: list[str]) -> None:
    """Stop a container that asks for limits; do nothing to any other.

    Raises:
        HookError: it asks for them, or its config.json, which would tell, cannot be read.
        UsageError: an option that the hook does not have.
    """
    arguments.parse(words, OPTIONS)
    until = process.deadline()
    bundle = oci_state.open_bundle(oci_state.read_stdin(until))
    if bundle is None:
        raise HookError(
            "the container's config.json cannot be read, which says if there are any",
            code="CDG-K104",
        )
    found = oci_config.environment(bundle, VARIABLES)
    asked = [f"{name}={shown(found[name])}" for name in VARIABLES if found.get(name)]
    if asked:
        raise HookError(
            f"{', '.join(asked)}: cdi-gen-hook cannot limit the memory of a GPU: use NVIDIA's own "
            "nvidia-cdi-hook for this spec, or take the variables out",
            code="CDG-K104",
        )
