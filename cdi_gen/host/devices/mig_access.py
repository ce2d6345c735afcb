# SPDX-License-Identifier: Apache-2.0
"""Finds the nodes that permit a process to configure or monitor the MIG devices of all GPUs.

Source: nvidia-caps.c of open-gpu-kernel-modules. Specs of GPUs do not have these nodes.
"""

from __future__ import annotations

from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice


def mig_access(kernel: Root, nodes: DeviceNodes, access: str) -> CharDevice | None:
    """Return the node of ``config`` or ``monitor``; None if the driver does not support MIG."""
    numbers = proc.mig_access(kernel, access)
    # The driver creates the node when a program uses it, so an absent node is not recorded.
    return nodes.capability(*numbers).values if numbers else None
