# SPDX-License-Identifier: Apache-2.0
"""What may still come: whether the host has booted, and whether its engines can make nodes.

A host that has not finished to boot may lack nodes that udev, nvidia-modprobe or
nvidia-persistenced make in a moment. A container that was given none of them never gets them.
"""

from __future__ import annotations

from functools import lru_cache

from cdi_gen.host.roots import Root

FIRST_USER_NAMESPACE = ["0", "0", "4294967295"]
"""user_namespaces(7): every user, each as itself."""

CONTAINER_MARKS = ("/run/systemd/container", "/run/.containerenv", "/.dockerenv")
"""Of systemd in any container, of Podman, of Docker."""

SYSTEMCTL = "/usr/bin/systemctl"
BOOTING = ("initializing", "starting")
TIMEOUT_SECONDS = 5


def engines_make_nodes(host: Root) -> bool:
    """Whether the kernel lets root make device nodes here: not in a user namespace."""
    try:
        return host.read_text("/proc/1/uid_map").split() == FIRST_USER_NAMESPACE
    except OSError:
        return True


def is_over(host: Root) -> bool:
    """Whether nothing more is to come of this host's boot; True where nobody tells."""
    if host.open_path("/") != "/" or is_container(host) or not host.exists("/run/systemd/system"):
        return True
    return _system_state(SYSTEMCTL) not in BOOTING


@lru_cache(maxsize=1)
def _system_state(systemctl: str) -> str:
    """Systemd's word for the state of the system; empty where it tells none."""
    import subprocess  # noqa: PLC0415 - only where a node is not there

    try:
        done = subprocess.run(
            [systemctl, "is-system-running"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def is_container(host: Root) -> bool:
    """Whether the host is itself a container, which its engine gave nodes once and for all."""
    if not engines_make_nodes(host) or any(host.exists(mark) for mark in CONTAINER_MARKS):
        return True
    try:
        environment = host.read_bytes("/proc/1/environ", 1 << 16)
    except OSError:
        return False
    return any(each.startswith(b"container=") for each in environment.split(b"\0"))
