# SPDX-License-Identifier: Apache-2.0
"""Engines that run in a sandbox of snap or Flatpak, which have other directories than the host."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host

DOCKER_SNAP = "/var/snap/docker/current"
"""Its daemon reads specs only in ``etc/cdi`` below this directory (canonical/docker-snap)."""
FLATPAK_INFORMATION = "/.flatpak-info"
"""Exists in a sandbox of Flatpak, and nowhere else."""


def examine(host: Host) -> Iterator[Finding]:
    """Yield the engines, and whether this command runs in such a sandbox itself."""
    has_snap = host.status(DOCKER_SNAP) is not None
    is_in_flatpak = host.status(FLATPAK_INFORMATION) is not None
    if not has_snap and not is_in_flatpak:
        raise NotApplicable("no engine of snap is installed")
    if is_in_flatpak:
        yield Finding(
            "CDG-A207",
            "warning",
            "cdi-gen runs in a sandbox of Flatpak, and examines the sandbox, not the host",
            subject=FLATPAK_INFORMATION,
            fix="flatpak-spawn --host cdi-gen doctor",
        )
    if has_snap:
        specs = f"{DOCKER_SNAP}{SPEC_DIRECTORIES[0]}"
        names = [name for name in host.entries(specs) or () if name.endswith((".json", ".yaml"))]
        if names:
            message = f"Docker of snap reads specs in {specs}, and writes them itself"
            yield Finding("CDG-A206", "info", message, subject="docker")
        else:
            yield Finding(
                "CDG-A206",
                "warning",
                f"Docker of snap reads specs only in {specs}, which has none",
                subject="docker",
                fix="sudo snap set docker nvidia-support.disabled=false && sudo snap restart docker"
                "  # or install Docker from a package of the distribution",
            )


CHECK = Check("confined-engines", "engines", "no engine in a sandbox lacks its specs", examine)
