# SPDX-License-Identifier: Apache-2.0
"""Generates the spec ``nvidia.com/mig`` of the MIG access nodes: ``config`` and ``monitor``.

``NVIDIA_MIG_CONFIG_DEVICES`` and ``NVIDIA_MIG_MONITOR_DEVICES`` request them.
"""

from __future__ import annotations

from cdi_gen.cdi.model import Device, Spec
from cdi_gen.generate.assemble import spec_kind, with_version
from cdi_gen.generate.device_nodes import DeviceEdits
from cdi_gen.generate.options import DEFAULTS, Options
from cdi_gen.inventory import Inventory, validation

CLASS = "mig"


def spec(inventory: Inventory, options: Options = DEFAULTS) -> Spec | None:
    """Return the spec; None if the host's driver does not support MIG.

    Args:
        inventory: must have been gathered with ``Where(transports=True)``, the default.
        options: the vendor, the engine's newest version and the groups; the class is ``mig``.

    Raises:
        CdiGenError: the inventory is invalid, or the engine does not support the spec's version.
    """
    validation.require(inventory)
    nodes = (("config", inventory.mig_config), ("monitor", inventory.mig_monitor))
    edits = DeviceEdits(inventory, options)
    devices = tuple(
        Device(name=name, container_edits=edits.nodes((node,))) for name, node in nodes if node
    )
    if not devices:
        return None
    kind = spec_kind(options.vendor, CLASS)
    return with_version(Spec(cdi_version="", kind=kind, devices=devices), options)
