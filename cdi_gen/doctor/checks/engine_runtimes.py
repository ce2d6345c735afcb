# SPDX-License-Identifier: Apache-2.0
"""Whether the runtimes of NVIDIA that engines use are registered and installed."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base import nvidia
from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.engines.machine import USUAL_DIRECTORIES
from cdi_gen.engines.runtimes import is_nvidia
from cdi_gen.engines.status import EngineStatus
from cdi_gen.paths import base_name, join

_CONSEQUENCES = {"docker": 'dockerd does not start ("unknown or invalid runtime name")'}
PREFIXES = {f"{prefix}/bin/{nvidia.RUNTIME}": prefix for prefix in ("/usr", "/usr/local")}


def examine(host: Host) -> Iterator[Finding]:
    """Yield default runtimes that are not registered, and runtimes whose program does not exist."""
    unregistered = [status for status in host.engines if _has_unregistered_default(status)]
    registered = [
        (status.engine, name, program)
        for status in host.engines
        for name, program in status.runtimes
        if program and not program.startswith("io.containerd.")
    ]
    if not registered and not unregistered:
        raise NotApplicable("no runtime of NVIDIA is registered in an engine")
    for status in unregistered:
        yield Finding(
            "CDG-A205",
            "error",
            f"the default runtime of {status.engine} is {status.default_runtime}, which is not "
            f"registered: {_CONSEQUENCES.get(status.engine, 'no container starts')}",
            subject=status.engine,
            fix=f"sudo cdi-gen hook install --{nvidia.RUNTIME} && "
            f"sudo cdi-gen engine configure {status.engine} --runtime",
        )
    for engine, name, program in registered:
        if not _exists(host, program):
            yield Finding(
                "CDG-A204",
                "error",
                f"the runtime {name} of {engine} is {program}, which does not exist: no container "
                "starts with it",
                subject=engine,
                fix=_fix(engine, program),
            )


def _has_unregistered_default(status: EngineStatus) -> bool:
    # Of the other runtimes the status does not tell whether they are registered.
    name = status.default_runtime
    return is_nvidia(name, "") and name not in dict(status.runtimes)


def _exists(host: Host, program: str) -> bool:
    if "/" in program:
        return host.status(program, follow=True) is not None
    return any(
        host.status(join(directory, program), follow=True) is not None
        for directory in USUAL_DIRECTORIES
    )


def _fix(engine: str, program: str) -> str:
    if program in PREFIXES or program == nvidia.RUNTIME:
        prefix = PREFIXES.get(program, "/usr")
        return f"sudo cdi-gen hook install --prefix {prefix} --{nvidia.RUNTIME}"
    if base_name(program).startswith(nvidia.RUNTIME):
        return (
            f"sudo cdi-gen hook install --{nvidia.RUNTIME} && "
            f"sudo cdi-gen engine configure {engine} --runtime"
        )
    return f"install {program}, or remove the runtime from the configuration of {engine}"


CHECK = Check(
    "engine-runtimes", "engines", "the runtimes of NVIDIA that engines use exist", examine
)
