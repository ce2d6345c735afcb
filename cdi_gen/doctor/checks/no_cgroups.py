# SPDX-License-Identifier: Apache-2.0
"""Whether NVIDIA's config.toml can be read, and its ``no-cgroups`` fits the engines."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base import nvidia
from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_gen.doctor import nvidia_toolkit
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.nvidia_configuration import PATH, read_configuration
from cdi_gen.engines.machine import USUAL_DIRECTORIES
from cdi_gen.paths import join


def examine(host: Host) -> Iterator[Finding]:
    """Yield that the file cannot be read, or that the hook changes control groups wrongly."""
    hooks = _installed(host, nvidia.PRESTART_HOOK)
    if not hooks and not _installed(host, nvidia.RUNTIME):
        raise NotApplicable("no program that reads NVIDIA's config.toml is installed")
    try:
        no_cgroups = read_configuration(host).no_cgroups
    except HookError as error:
        yield Finding(
            error.code,
            "error",
            str(error),
            subject=PATH,
            fix="sudo nvidia-ctk config --in-place  # writes the defaults; or correct the line",
        )
        return
    if not any(nvidia_toolkit.is_nvidias(host, path) for path in hooks):
        raise NotApplicable("the prestart hook of NVIDIA's toolkit is not installed")
    rootless = sorted({status.engine for status in host.engines if status.rootless})
    rootful = sorted({status.engine for status in host.engines if not status.rootless})
    command = "sudo nvidia-ctk config --in-place --set nvidia-container-cli.no-cgroups"
    cdi = "or request devices by CDI, which needs no hook: --device nvidia.com/gpu=all"
    if rootless and not no_cgroups:
        yield Finding(
            "CDG-A253",
            "warning",
            f"{PATH} does not set no-cgroups, and rootless {' and '.join(rootless)} may not change "
            'control groups: NVIDIA\'s hook fails ("bpf_prog_query … operation not permitted")',
            subject=PATH,
            fix=f"{command}=true  # {cdi}",
        )
    elif no_cgroups and "docker" in rootful:
        yield Finding(
            "CDG-A254",
            "error",
            f"{PATH} sets no-cgroups, and Docker uses NVIDIA's hook: containers get device nodes "
            'that they may not open ("Failed to initialize NVML: Unknown Error")',
            subject=PATH,
            fix=f"{command}=false  # {cdi}",
        )


def _installed(host: Host, program: str) -> list[str]:
    paths = [join(directory, program) for directory in USUAL_DIRECTORIES]
    return [path for path in paths if host.status(path, follow=True)]


CHECK = Check(
    "no-cgroups", "rootless", "no-cgroups of NVIDIA's config.toml fits the engines", examine
)
