# SPDX-License-Identifier: Apache-2.0
"""The finding that an engine takes no CDI devices: its version has none, or they are off."""

from __future__ import annotations

from collections.abc import Callable

from cdi_base.findings import Finding
from cdi_gen.engines import facts
from cdi_gen.why.mechanism.engine_facts import EngineFacts

_SINCE = {
    "docker": lambda: facts.docker().cdi_since,
    "podman": lambda: facts.podman().cdi_since,
    "buildah": lambda: facts.buildah().cdi_since,
    "nerdctl": lambda: facts.nerdctl().cdi_since,
    "containerd": lambda: facts.containerd().cdi_since,
    "crio": lambda: facts.crio().cdi_since,
}

_DEFAULT_SINCE: dict[str, Callable[[], str]] = {
    "docker": lambda: facts.docker().cdi_by_default_since,
    "containerd": lambda: facts.containerd().cdi_by_default_since,
}


def finding(engine: EngineFacts) -> Finding:
    """The finding for an engine whose `status.cdi` is not ``on``."""
    status = engine.status
    if status.cdi == "no":
        since = _SINCE[status.engine]()
        fix = f"install {status.engine} {since} or later"
        if status.engine == "docker":
            program = facts.docker().gpus_by_hook_program
            fix = (
                f"sudo cdi-gen hook install --prefix /usr --{program} && sudo "
                f"{facts.docker().restart}, and request the GPU with docker run --gpus; or {fix}"
            )
        message = f"{engine.label} does not support CDI ({since} and later do)"
        return Finding("CDG-E102", "error", message, subject=status.engine, fix=fix)
    rootless = " --rootless" if status.rootless else ""
    sudo = "" if status.rootless else "sudo "
    fix = f"{sudo}cdi-gen engine configure {status.engine}{rootless}"
    if status.engine == "docker":
        docker = facts.docker()
        fix += f" && {docker.user_restart if status.rootless else f'sudo {docker.restart}'}"
    default_since = _DEFAULT_SINCE.get(status.engine, str)()
    because = status.source
    if status.source == "default" and default_since:
        because = f"{status.engine} before {default_since} needs a setting"
    message = f"CDI is switched off in {engine.label} ({because})"
    return Finding("CDG-Y002", "error", message, subject=status.engine, fix=fix)
