# SPDX-License-Identifier: Apache-2.0
"""Tells whether nodes may still be created: by the host's boot, or by engines.

A host that is still booting may lack nodes that udev, nvidia-modprobe or nvidia-persistenced create
later. A container that starts without a node never gets it.
"""

from __future__ import annotations

from functools import lru_cache

from cdi_gen.host.roots import Root

FIRST_USER_NAMESPACE = ["0", "0", "4294967295"]
"""The map of the initial user namespace (user_namespaces(7)): each user is mapped to itself."""

CONTAINER_MARKS = ("/run/systemd/container", "/run/.containerenv", "/.dockerenv")
"""Files that exist in containers: with systemd, of Podman, of Docker."""

SYSTEMCTL = "/usr/bin/systemctl"
BOOTING = ("initializing", "starting")
TIMEOUT_SECONDS = 5


def engines_make_nodes(host: Root) -> bool:
    """Whether the kernel permits root to create device nodes: not in a user namespace."""
    try:
        return host.read_text("/proc/1/uid_map").split() == FIRST_USER_NAMESPACE
    except OSError:
        return True


def is_over(host: Root) -> bool:
    """Whether the host has finished booting; True if systemd does not run or does not answer."""
    if host.open_path("/") != "/" or is_container(host) or not host.exists("/run/systemd/system"):
        return True
    return _system_state(SYSTEMCTL) not in BOOTING


@lru_cache(maxsize=1)
def _system_state(systemctl: str) -> str:
    """Return systemd's name of the system state; empty if systemctl does not answer."""
    import subprocess  # noqa: PLC0415 - only if a node is missing

    try:
        process = subprocess.run(
            [systemctl, "is-system-running"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip()


def is_container(host: Root) -> bool:
    """Whether the host is itself a container, whose nodes do not change."""
    if not engines_make_nodes(host) or any(host.exists(mark) for mark in CONTAINER_MARKS):
        return True
    try:
        environment = host.read_bytes("/proc/1/environ", 1 << 16)
    except OSError:
        return False
    return any(line.startswith(b"container=") for line in environment.split(b"\0"))
