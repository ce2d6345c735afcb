# SPDX-License-Identifier: Apache-2.0
"""Xid errors in the kernel's log since the driver was loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.kernel_log import since_loading
from cdi_gen.xids import catalogue, describe

if TYPE_CHECKING:
    from cdi_base.findings import Severity

_XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f:.]+)\): (\d+), ?(.*)")


class Event(NamedTuple):
    """The errors of one number of one GPU."""

    address: str
    number: int
    times: int
    seconds: float
    """Of the last one, since the boot."""
    text: str


def examine(host: Host) -> Iterator[Finding]:
    """Yield a finding for each number of Xid of each GPU."""
    if host.driver_module is None and not host.pci_gpus:
        raise NotApplicable("no NVIDIA GPU")
    uptime = host.uptime
    for event in events(host):
        xid = catalogue().get(event.number)
        severity: Severity = "warning"
        code = "CDG-A043"
        if xid is None or xid.is_critical:
            code, severity = "CDG-A041", "error"
        elif xid.is_harmless:
            code, severity = "CDG-A042", "info"
        times = f"{event.times} times, last " if event.times > 1 else ""
        yield Finding(
            code,
            severity,
            f"GPU {event.address} reported {describe(event.number)} "
            f"{times}{_ago(uptime, event.seconds)}: {event.text}",
            subject=event.address,
            fix=_fix(event, xid.action if xid else ""),
        )


def events(host: Host) -> list[Event]:
    """Return the events by GPU and number, in the order of their first line.

    Errors of before the module was loaded again are past: a reset of the GPU comes with it.
    """
    table: dict[tuple[str, int], Event] = {}
    for line in since_loading(host.kernel_log):
        match = _XID.search(line.text)
        if match is None:
            continue
        address, number, text = match[1].lower(), int(match[2]), match[3]
        earlier = table.get((address, number))
        count = earlier.times + 1 if earlier else 1
        table[address, number] = Event(address, number, count, line.seconds, text)
    return [*table.values()]


def _fix(event: Event, action: str) -> str:
    """Return the command of an action of the catalogue."""
    if action in {"RESTART_BM", "RESTART_VM"}:
        return "sudo reboot  # first stop the machine's workloads"
    if action == "RESET_GPU":
        return (
            f"sudo nvidia-smi --gpu-reset -i {event.address}  # first stop the programs that use "
            "the GPU"
        )
    return ""


def _ago(uptime: float | None, seconds: float) -> str:
    if uptime is None or uptime < seconds:
        return f"{seconds:.0f} s after the boot"
    minutes = int(uptime - seconds) // 60
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago"


CHECK = Check("xid-errors", "driver", "the kernel's log has no Xid error of a GPU", examine)
