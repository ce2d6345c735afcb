# SPDX-License-Identifier: Apache-2.0
"""Finds the device nodes of MIG devices by procfs, without asking NVML."""

from __future__ import annotations

from collections.abc import Mapping

from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.where import Where, roots
from cdi_gen.inventory import CharDevice

Instance = tuple[int, int, int | None]
"""The minor number of a GPU, the GPU instance, and the compute instance or None."""


def mig_nodes(where: Where) -> Mapping[Instance, CharDevice]:
    """Return the node of each GPU instance and compute instance that exists now.

    Raises:
        CdiGenError: a directory of ``where`` does not exist.
    """
    directories = roots(where)
    nodes = DeviceNodes(directories.host, directories.dev, proc.majors(directories.host))
    found = {}
    for item in proc.mig_capabilities(directories.host):
        node = nodes.capability(item.device_minor, item.file_mode).values
        if node is not None:
            found[item.gpu_minor, item.gpu_instance, item.compute_instance] = node
    return found
