# SPDX-License-Identifier: Apache-2.0
"""Whether ``systemctl daemon-reload`` takes the GPUs away from running containers.

The other cause, nodes without links in /dev/char, is a check of device nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from cdi_base import nvidia
from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.doctor import nvidia_toolkit
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.nvidia_configuration import read_configuration
from cdi_gen.engines import facts
from cdi_gen.engines.machine import USUAL_DIRECTORIES
from cdi_gen.paths import join

OPTION = "native.cgroupdriver="


def examine(host: Host) -> Iterator[Finding]:
    """Yield that Docker uses a hook whose changes of control groups systemd does not know."""
    if not host.exists("/run/systemd/system"):
        raise NotApplicable("the host does not run systemd")
    hook = _legacy_hook(host)
    driver = _cgroup_driver(host)
    if hook and driver:
        yield Finding(
            "CDG-A240",
            "error",
            f"{hook} gives Docker's containers their GPUs without systemd's knowledge, and {driver}"
            ': systemctl daemon-reload takes the GPUs away ("Failed to initialize NVML: Unknown '
            'Error")',
            subject="docker",
            fix=f"sudo cdi-gen hook install --{nvidia.PRESTART_HOOK}  # it tells systemd; or use "
            "CDI: docker run --device nvidia.com/gpu=all",
        )


def _legacy_hook(host: Host) -> str | None:
    """Return NVIDIA's prestart hook if Docker runs it for ``--gpus`` or by its runtime."""
    statuses = [status for status in host.engines if status.engine == "docker"]
    if not statuses:
        return None
    programs = [
        path
        for directory in USUAL_DIRECTORIES
        if host.status(path := join(directory, nvidia.PRESTART_HOOK), follow=True)
        and nvidia_toolkit.is_nvidias(host, path)
    ]
    if not programs:
        return None
    docker = facts.docker()
    has_cdi_gpus = any(
        at_least(status.version, docker.gpus_by_cdi_since, unknown=False) for status in statuses
    ) and any(host.status(join(directory, nvidia.HOOK)) for directory in USUAL_DIRECTORIES)
    try:
        mode = read_configuration(host).mode
    except HookError:
        mode = "auto"
    has_legacy_runtime = mode == "legacy" and any(status.runtimes for status in statuses)
    return programs[0] if has_legacy_runtime or not has_cdi_gpus else None


def _cgroup_driver(host: Host) -> str | None:
    """Return why systemd manages the control groups of Docker's containers; None if not."""
    path = facts.docker().configuration
    try:
        options = json.loads(host.text(path) or "{}").get("exec-opts", ())
    except (ValueError, AttributeError, RecursionError):
        options = ()
    drivers = [str(option).removeprefix(OPTION) for option in options if OPTION in str(option)]
    if drivers:
        return f"{path} sets {OPTION}systemd" if drivers[-1] == "systemd" else None
    if host.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "systemd manages control groups of version 2"
    return None


CHECK = Check(
    "daemon-reload", "engines", "systemctl daemon-reload leaves containers their GPUs", examine
)
