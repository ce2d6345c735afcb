# SPDX-License-Identifier: Apache-2.0
"""Tells whether the numbers of processes that NVML lists are those of /proc.

The driver numbers processes as the namespace of the program that asks does, and leaves out those
outside of it (``os_find_ns_pid`` of open-gpu-kernel-modules, since 515). An older driver gives the
numbers of the initial namespace.
"""

from __future__ import annotations

import os

from cdi_base.files import read_beginning
from cdi_base.versions import at_least
from cdi_gen.host import boot
from cdi_gen.host.roots import Root

INITIAL = "pid:[4026531836]"
"""The initial PID namespace: its number is fixed in the kernel (``PROC_PID_INIT_INO``)."""
TRANSLATED_SINCE = "515"
HINT = "run it with hostPID: true, or --pid=host"


def is_partial(host_root: str) -> bool:
    """Whether this program is in a container that does not see the host's processes."""
    return _own() != INITIAL and boot.is_container(Root(seen_from=host_root))


def fault(proc: str, driver_version: str) -> str:
    """Return why the numbers are not those of the directory of processes; empty if they are.

    Args:
        proc: the directory of processes.
        driver_version: of the driver; empty if not known.
    """
    try:
        status = read_beginning(f"{proc}/self/status", 1 << 16).decode("ascii", "replace")
    except OSError:
        status = ""
    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
    if len(numbers) != 1:
        return f"{proc} is of another PID namespace than this program: {HINT}"
    if _own() == INITIAL or at_least(driver_version, TRANSLATED_SINCE, unknown=False):
        return ""
    return (
        f"driver {driver_version or '(unknown)'} numbers them as the initial PID namespace does, "
        f"and this program is in another one: {HINT}"
    )


def _own() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
