# SPDX-License-Identifier: Apache-2.0
"""The nodes that permit a process to configure, or to monitor, the MIG devices of all GPUs.

Source: nvidia-caps.c of open-gpu-kernel-modules. No GPU's spec has them.
"""

from __future__ import annotations

from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice


def mig_access(kernel: Root, nodes: DeviceNodes, access: str) -> CharDevice | None:
    """The node for ``config`` or for ``monitor``; None if the driver does not support MIG."""
    numbers = proc.mig_access(kernel, access)
    # The driver makes the node when a program uses it: an absent node is not missing.
    return nodes.capability(*numbers).values if numbers else None
