# SPDX-License-Identifier: Apache-2.0
"""nvidia-persistenced: whether it runs, and whether its socket agrees."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host

PROGRAM = "nvidia-persistenced"
PROGRAMS = tuple(f"{directory}/{PROGRAM}" for directory in ("/usr/bin", "/usr/sbin", "/opt/bin"))
SOCKET = "/run/nvidia-persistenced/socket"
RESTART = "sudo systemctl enable nvidia-persistenced && sudo systemctl restart nvidia-persistenced"


def examine(host: Host) -> Iterator[Finding]:
    """Yield that the daemon does not run, or that its socket is a leftover or is missing."""
    if host.driver_module is None or not host.pci_gpus:
        raise NotApplicable("no GPU with the driver")
    has_socket = host.exists(SOCKET)
    if not has_socket and not any(map(host.exists, PROGRAMS)):
        raise NotApplicable("nvidia-persistenced is not installed")
    is_running = bool(host.processes(PROGRAM))
    if is_running and not has_socket:
        yield Finding(
            "CDG-A082",
            "warning",
            f"nvidia-persistenced runs without its socket {SOCKET}: specs that name it break",
            subject=SOCKET,
            fix=f"{RESTART} && sudo cdi-gen refresh",
        )
    elif has_socket and not is_running:
        yield Finding(
            "CDG-A082",
            "warning",
            f"{SOCKET} is a leftover: nvidia-persistenced does not run",
            subject=SOCKET,
            fix=f"{RESTART} && sudo cdi-gen refresh",
        )
    elif not is_running:
        yield Finding(
            "CDG-A081",
            "warning",
            "nvidia-persistenced is installed and does not run: GPUs lose their state when no "
            "program uses them, and the first one waits seconds",
            subject=PROGRAM,
            fix=RESTART,
        )


CHECK = Check("persistenced", "driver", "nvidia-persistenced runs, with its socket", examine)
