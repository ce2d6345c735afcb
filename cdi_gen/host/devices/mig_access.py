# SPDX-License-Identifier: Apache-2.0
"""The nodes of those who divide GPUs into MIG devices, and of those who watch all such devices.

nvidia-caps.c of open-gpu-kernel-modules. They are no part of an inventory: no GPU's spec has them.
"""

from __future__ import annotations

from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice

ACCESSES = ("config", "monitor")
"""Below /proc/driver/nvidia/capabilities/mig; programs of a container need one each."""


def nodes(dev_root: str = "/") -> dict[str, CharDevice]:
    """The node of each access that the loaded driver has; none where it knows no MIG.

    Args:
        dev_root: the directory under which the driver's /dev is.
    """
    host = Root()
    devices = DeviceNodes(host, Root(dev_root), proc.majors(host))
    found = {}
    for access in ACCESSES:
        numbers = proc.mig_access(host, access)
        node = devices.capability(*numbers) if numbers else None
        if node:
            found[access] = node
    return found
