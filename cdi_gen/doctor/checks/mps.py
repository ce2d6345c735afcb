# SPDX-License-Identifier: Apache-2.0
"""MPS: the pipes of a control daemon that does not run any more, or that does."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host

DIRECTORY = "/tmp/nvidia-mps"  # noqa: S108 - the default of CUDA_MPS_PIPE_DIRECTORY
CONTROL = f"{DIRECTORY}/control"
DAEMON = "nvidia-cuda-mps-control"


def examine(host: Host) -> Iterator[Finding]:
    """Yield a leftover of MPS, which NVIDIA's toolkit mounts into containers."""
    status = host.status(DIRECTORY)
    if status is None:
        raise NotApplicable(f"MPS is not used: no {DIRECTORY}")
    if host.processes(DAEMON):
        yield Finding(
            "CDG-A102",
            "info",
            f"an MPS control daemon serves {DIRECTORY}: a program that sees the directory shares "
            "its GPU by MPS; NVIDIA's toolkit mounts it into every container, cdi-gen into none",
            subject=DIRECTORY,
        )
        return
    yield Finding(
        "CDG-A101",
        "warning",
        f"{DIRECTORY} is a leftover: no {DAEMON} runs; CUDA programs that see it fail with "
        "cudaErrorMpsConnectionFailed (805), also in containers that get it mounted",
        subject=DIRECTORY,
        fix=f"sudo rm -r {DIRECTORY}  # or start MPS again: sudo nvidia-cuda-mps-control -d",
    )


CHECK = Check("mps", "sharing", "an MPS control daemon serves its pipes", examine)
