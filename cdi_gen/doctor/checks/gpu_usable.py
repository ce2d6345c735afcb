# SPDX-License-Identifier: Apache-2.0
"""Whether the driver can use each GPU that is on the PCI bus."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.host.devices import proc
from cdi_gen.inventory import Inventory
from cdi_gen.paths import printable

OF_MIG = frozenset({"CDG-H106", "CDG-H107", "CDG-H108", "CDG-H109", "CDG-H110", "CDG-H111"})
"""Codes of the group ``sharing``."""
FALLEN, NO_NODE = "CDG-H102", "CDG-H103"

FIXES = {
    FALLEN: "sudo poweroff  # and on again, a restart is not enough; if it happens again, check "
    "its power, riser and slot",
    NO_NODE: "sudo cdi-gen system create-device-nodes && sudo cdi-gen refresh",
}


def examine(host: Host) -> Iterator[Finding]:
    """Yield GPUs that containers do not get, and GPUs that the driver does not list."""
    inventory = host.inventory
    for record in inventory.unusable_devices:
        if record.code in OF_MIG:
            continue
        # A container has only some of the host's GPUs.
        is_given = not (record.code == NO_NODE and _is_container(host))
        yield Finding(
            record.code,
            "error" if is_given else "info",
            f"{record.device}: {record.reason}",
            subject=record.device,
            fix=_fix(host, record.code),
        )
    for excluded in inventory.ignored:
        if excluded.code == "CDG-H112":
            message = f"{excluded.path}: {excluded.reason}"
            yield Finding(excluded.code, "info", message, subject=excluded.path)
    if not _is_container(host):
        yield from _unlisted(host, inventory)


def _fix(host: Host, code: str) -> str:
    if code == NO_NODE and not host.fact(
        "manages nodes", lambda: proc.manages_device_files(host.roots.host)
    ):
        return (
            "sudo grep -r NVreg_ModifyDeviceFiles=0 /etc/modprobe.d  # remove it, and reboot: "
            "it keeps programs from creating nodes"
        )
    return FIXES.get(code, "")


def _is_container(host: Host) -> bool:
    try:
        return host.is_container
    except Unseen:
        return False  # a bare inventory


def _unlisted(host: Host, inventory: Inventory) -> Iterator[Finding]:
    """Yield the GPUs on the bus that are bound to the driver and not in its list."""
    try:
        on_the_bus = host.pci_gpus
    except Unseen:
        return  # a bare inventory
    records = (*inventory.unusable_devices, *inventory.ignored)
    texts = [
        *(gpu.pci_address or "" for gpu in inventory.gpus),
        *(getattr(record, "device", getattr(record, "path", "")) for record in records),
    ]
    for gpu in on_the_bus:
        if gpu.driver in {"", "nvidia"} and not any(gpu.address in text for text in texts):
            yield Finding(
                "CDG-A031",
                "error",
                f"GPU {printable(gpu.address)} is on the PCI bus, but the driver does not list it",
                subject=gpu.address,
                fix=f"echo 1 | sudo tee /sys/bus/pci/devices/{gpu.address}/remove && echo 1 | sudo "
                f"tee /sys/bus/pci/rescan; sudo dmesg | grep -E 'NVRM.*{gpu.address[:-2]}'",
            )


CHECK = Check("gpu-usable", "driver", "the driver can use each GPU", examine)
