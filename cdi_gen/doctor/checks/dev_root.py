# SPDX-License-Identifier: Apache-2.0
"""Whether the nodes are in the directory where cdi-gen and specs expect them."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import setting
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.checks.driver_libraries import DRIVER_ROOTS
from cdi_gen.doctor.host import Host
from cdi_gen.paths import join

NODE = "/dev/nvidiactl"


def examine(host: Host) -> Iterator[Finding]:
    """Yield that another root has the nodes."""
    if host.driver_module is None:
        raise NotApplicable("no NVIDIA driver is loaded")
    used: str = host.fact("dev root", lambda: host.roots.dev.name)
    if host.exists(join(used, NODE)):
        return
    candidates = dict.fromkeys(("/", host.where.driver_root, *DRIVER_ROOTS))
    other = next((root for root in candidates if host.exists(join(root, NODE))), None)
    if other is None:
        return  # missing-nodes reports it
    yield Finding(
        "CDG-A064",
        "error",
        f"{join(used, '/dev')} has no nodes of the driver, but {join(other, '/dev')} has",
        subject=join(other, "/dev"),
        fix=f"{setting.command('dev-root', other)} && sudo cdi-gen refresh",
    )


CHECK = Check("dev-root", "device-nodes", "the dev root has the driver's nodes", examine)
