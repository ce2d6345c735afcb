# SPDX-License-Identifier: Apache-2.0
"""Hook apply-cuda-memory-limits: rejects memory limits, which this program cannot set.

Specs of nvidia-ctk 1.20.2 and later have this createRuntime hook for each GPU. NVIDIA's hook sets
limits with NVML if the container's environment requests a share of the GPU's memory. The hooks of
cdi-gen do not load NVML. A container with such a request must not run without the limits, so it is
stopped.
"""

from __future__ import annotations

from cdi_base import oci_config, oci_state, process
from cdi_base.errors import HookError, shown
from cdi_hook import arguments

NAME = "apply-cuda-memory-limits"
VARIABLES = ("NVIDIA_GPU_MEMORY_REQUEST", "NVIDIA_GPU_MEMORY_LIMIT")
OPTIONS = ("--driver-root", "--gpu-id", "--container-spec")


def refuse(words: list[str]) -> None:
    """Stop a container that requests memory limits; do nothing for other containers.

    Raises:
        HookError: the container requests limits, or its config.json cannot be read.
        UsageError: an option that the hook does not have.
    """
    arguments.parse(words, OPTIONS)
    until = process.deadline()
    bundle = oci_state.open_bundle(oci_state.read_stdin(until))
    if bundle is None:
        raise HookError(
            "the container's config.json cannot be read, which may request memory limits",
            code="CDG-K104",
        )
    values = oci_config.environment(bundle, VARIABLES)
    requests = [f"{name}={shown(values[name])}" for name in VARIABLES if values.get(name)]
    if requests:
        raise HookError(
            f"{', '.join(requests)}: cdi-gen-hook cannot limit the memory of a GPU: use "
            "NVIDIA's own nvidia-cdi-hook for this spec, or remove the variables",
            code="CDG-K104",
        )
