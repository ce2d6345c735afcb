# SPDX-License-Identifier: Apache-2.0
"""MIG: GPUs that are divided and have no device, and devices that containers cannot get."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import distribution
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.checks import device_nodes
from cdi_gen.doctor.checks.gpu_usable import OF_MIG
from cdi_gen.doctor.host import Host


def examine(host: Host) -> Iterator[Finding]:
    """Yield empty GPUs, unusable MIG devices, and MIG devices without their nodes."""
    inventory = host.inventory
    unusable = [record for record in inventory.unusable_devices if record.code in OF_MIG]
    if not unusable and not any(gpu.mig_enabled for gpu in inventory.gpus):
        raise NotApplicable("no GPU has MIG enabled")
    for record in unusable:
        fix = ""
        if record.code == "CDG-H106":
            number = record.device.removeprefix("GPU ").partition(" ")[0]
            fix = (
                f"sudo nvidia-smi mig -i {number} -cgi 19 -C  # list profiles: -lgip; for "
                f"the whole GPU: sudo nvidia-smi -i {number} -mig 0"
            )
        is_debian = distribution.family(host) in {"debian", "ubuntu"}
        if record.code == "CDG-H107" and "python3-pynvml" in record.reason and is_debian:
            fix = "sudo apt-get install python3-pynvml && sudo cdi-gen refresh --force"
        message = f"{record.device}: {record.reason}"
        yield Finding(record.code, "error", message, subject=record.device, fix=fix)
    absent = [
        node.path
        for device in inventory.mig_devices
        for node in (device.gpu_instance_cap, device.compute_instance_cap)
        if not node.present
    ]
    if absent:
        paths = [*dict.fromkeys(absent)]
        yield device_nodes.missing(
            paths, "containers with these MIG devices get a GPU that does not work"
        )


CHECK = Check("mig-devices", "sharing", "containers can get each MIG device", examine)
