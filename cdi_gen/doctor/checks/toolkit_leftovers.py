# SPDX-License-Identifier: Apache-2.0
"""What other ways to give GPUs to containers have left on the host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from shlex import quote

from cdi_base import nvidia
from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs, nvidia_toolkit
from cdi_gen.doctor.check import Check
from cdi_gen.doctor.host import Host
from cdi_gen.paths import join

HOOK_DIRECTORIES = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
PACKAGE_FILES = {
    "nvidia-docker2": (
        "/usr/bin/nvidia-docker",
        "/var/lib/dpkg/info/nvidia-docker2.list",
        "/usr/share/doc/nvidia-docker2",
    ),
    "nvidia-docker": ("/lib/systemd/system/nvidia-docker.service", "/usr/bin/nvidia-docker-plugin"),
    nvidia.RUNTIME: (f"/var/lib/dpkg/info/{nvidia.RUNTIME}.list",),
    "libnvidia-container0": ("/var/lib/dpkg/info/libnvidia-container0:arm64.list",),
}
"""Packages that NVIDIA's toolkit has replaced, and files that only they have."""


def examine_hooks(host: Host) -> Iterator[Finding]:
    """Yield the OCI hooks of NVIDIA, which Podman and CRI-O run for every container."""
    has_specs = bool(installed_specs.effective(host).specs)
    for directory in HOOK_DIRECTORIES:
        for name in host.entries(directory) or ():
            if name.endswith(".json"):
                yield from _hook_file(host, join(directory, name), has_specs=has_specs)


def _hook_file(host: Host, path: str, *, has_specs: bool) -> Iterator[Finding]:
    try:
        program = str(json.loads(host.text(path, 1 << 16) or "")["hook"]["path"])
    except (ValueError, KeyError, TypeError, RecursionError):
        yield Finding(
            "CDG-A211",
            "error",
            f"{path} is not a valid hook file: Podman and CRI-O start no container at all",
            subject=path,
            fix=f"sudo rm {quote(path)}",
        )
        return
    if host.status(program, follow=True) is None:
        yield Finding(
            "CDG-A210",
            "error",
            f"{path} names {program}, which does not exist: Podman and CRI-O start no container "
            "that the hook is meant for",
            subject=path,
            fix=f"sudo rm {quote(path)}",
        )
    elif nvidia_toolkit.is_nvidias(host, program) and has_specs:
        yield Finding(
            "CDG-A210",
            "warning",
            f"{path} runs {program} for every container, beside the specs: a container that "
            "requests a GPU in both ways gets it twice, or does not start",
            subject=path,
            fix=f"sudo rm {quote(path)}  # and request GPUs so: podman run --device "
            "nvidia.com/gpu=all",
        )


def examine_packages(host: Host) -> Iterator[Finding]:
    """Yield the packages that NVIDIA no longer maintains."""
    for package, paths in PACKAGE_FILES.items():
        path = next((path for path in paths if host.exists(path)), None)
        if path:
            is_debian = host.exists("/var/lib/dpkg/status")
            command = "apt-get purge" if is_debian else "dnf remove"
            yield Finding(
                "CDG-A212",
                "warning",
                f"the package {package} is installed ({path}); it ended with NVIDIA Container "
                "Toolkit 1.15, and its daemon.json makes Docker use the runtime of that time",
                subject=package,
                fix=f"sudo {command} {package}",
            )


CHECKS = (
    Check("oci-hooks", "engines", "no OCI hook gives GPUs beside the specs", examine_hooks),
    Check("old-packages", "engines", "no package of before 2024 is installed", examine_packages),
)
