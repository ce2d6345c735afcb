# SPDX-License-Identifier: Apache-2.0
"""Messages of the driver in the kernel's log about GPUs that it could not start, or lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.kernel_log import since_loading

_ADDRESS = r"(?:PCI:)?(?P<address>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?)"
PATTERNS = tuple(
    (re.compile(pattern.replace("ADDRESS", _ADDRESS), re.IGNORECASE), code)
    for pattern, code in (
        (r"NVRM: BAR\d is 0M @ \S+ \(ADDRESS\)", "CDG-A046"),
        (r"NVRM: .*?ADDRESS.*has fallen off the bus", "CDG-A045"),
        (r"NVRM: GPU ADDRESS: (?:RmInitAdapter|rm_init_adapter) failed", "CDG-A044"),
        (r"NVRM: GPU ADDRESS: (?:GSP|Failed to load firmware|.*gsp.*firmware)", "CDG-A044"),
        (r"nvidia ADDRESS: Direct firmware load for \S+ failed", "CDG-A044"),
        (r"nvidia ADDRESS: probe (?:with driver nvidia )?failed with error -\d+", "CDG-A044"),
    )
)
"""The messages of nv.c and os-interface of the kernel module, by the code of the finding."""


def examine(host: Host) -> Iterator[Finding]:
    """Yield the last message of each kind about each GPU."""
    if host.driver_module is None and not host.pci_gpus:
        raise NotApplicable("no NVIDIA GPU")
    last: dict[tuple[str, str], str] = {}
    for line in since_loading(host.kernel_log):
        for pattern, code in PATTERNS:
            match = pattern.search(line.text)
            if match is not None:
                address = match["address"].lower()
                last[code, address if "." in address else f"{address}.0"] = line.text
                break
    for (code, address), text in last.items():
        yield Finding(code, "error", f"GPU {address}: {text}", subject=address, fix=FIXES[code])


FIXES = {
    "CDG-A046": 'switch "Above 4G Decoding" on in the firmware of the machine; give a virtual '
    "machine a larger 64-bit MMIO window; else add pci=realloc to the kernel's command line",
    "CDG-A045": "sudo poweroff  # and on again; if it happens again, check the GPU's power cables, "
    "riser and slot, and switch ASPM off in the firmware",
    "CDG-A044": "sudo poweroff  # and on again; then reinstall the driver with its firmware, try "
    "the GPU in another machine; sudo nvidia-bug-report.sh collects what NVIDIA needs",
}


CHECK = Check("gpu-errors", "driver", "the driver started each GPU and lost none", examine)
