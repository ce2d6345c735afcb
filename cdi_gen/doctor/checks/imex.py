# SPDX-License-Identifier: Apache-2.0
"""IMEX: the daemon and the channels by which GPUs of several machines share memory."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host

PROGRAM, UNIT = "nvidia-imex", "nvidia-imex"
NODES = "/etc/nvidia-imex/nodes_config.cfg"
DRIVER = "nvidia-caps-imex-channels"
CHANNEL = f"/dev/{DRIVER}/channel0"


def examine(host: Host) -> Iterator[Finding]:
    """Yield that the daemon does not run, or that there is no channel."""
    addresses = [
        line
        for line in (host.text(NODES, 1 << 16) or "").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if host.driver_module is None or not addresses:
        raise NotApplicable(f"no IMEX domain: {NODES} names no node")
    if not host.processes(PROGRAM):
        yield Finding(
            "CDG-A124",
            "error",
            f"{NODES} names {len(addresses)} nodes, and nvidia-imex does not run: memory of the "
            "other nodes' GPUs cannot be mapped",
            subject=UNIT,
            fix=f"sudo systemctl enable {UNIT} && sudo systemctl restart {UNIT}  # its log: "
            "/var/log/nvidia-imex.log",
        )
    major = host.majors.get(DRIVER)
    if major is not None and not host.exists(CHANNEL):
        yield Finding(
            "CDG-A125",
            "warning",
            f"the IMEX channel {CHANNEL} does not exist: containers that ask for it do not start",
            subject=CHANNEL,
            fix=f"sudo mkdir -p /dev/{DRIVER} && sudo mknod -m 0666 {CHANNEL} c {major} 0  # at "
            "each boot: options nvidia NVreg_CreateImexChannel0=1 in /etc/modprobe.d",
        )


CHECK = Check("imex", "fabric", "nvidia-imex runs, with a channel", examine)
