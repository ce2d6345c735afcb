# SPDX-License-Identifier: Apache-2.0
"""Mode cap: the driver capabilities as devices of their own."""

from __future__ import annotations

from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.errors import CdiGenError
from cdi_gen.generate import driver_edits
from cdi_gen.generate.assemble import kind_of, versioned
from cdi_gen.generate.device_nodes import DeviceEdits
from cdi_gen.generate.options import Options
from cdi_gen.generate.selection import select
from cdi_gen.inventory import Inventory


def generate_capabilities(inventory: Inventory, options: Options) -> Spec:
    """The driver capabilities as devices: ``--device nvidia.com/cap=graphics`` beside a GPU.

    They have files and control nodes. The hook of the GPU's spec makes the links and the loader's
    cache, whichever capabilities a container combines.

    Raises:
        UnsafeError: a user other than root could change the hook program.
        UsageError: an option is invalid.
        CdiGenError: the driver is split or has no file, no host can have such an inventory, or the
            engine cannot take such a spec.
    """
    driver_edits.require_driver(inventory, options)
    hooked = driver_edits.hooks(inventory, options) is not None
    edits = DeviceEdits(inventory, options)
    devices = []
    for capability in catalogue().capabilities:
        single = options._replace(capabilities=(capability.name,))
        selection = select(inventory, catalogue(), single)
        mounts = driver_edits.mounts(inventory, selection, catalogue(), options, hooked=hooked)
        if selection.libraries or mounts:
            container_edits = edits.nodes(selection.control_nodes) | ContainerEdits(mounts=mounts)
            devices.append(Device(name=capability.name, container_edits=container_edits))
    if not devices:
        raise CdiGenError("the inventory has no file of the driver", code="CDG-I102")
    spec = Spec(
        cdi_version="", kind=kind_of(options.vendor, options.class_), devices=tuple(devices)
    )
    return versioned(spec, options)


class CapabilitiesMode:
    """The driver capabilities as devices."""

    class_ = "cap"
    transports = False

    def spec(self, inventory: Inventory, options: Options) -> Spec:
        """As `generate_capabilities`."""
        return generate_capabilities(inventory, options)

    def summary(self, spec: Spec, inventory: Inventory, options: Options) -> str:  # noqa: ARG002
        """The capabilities, the driver, the hooks."""
        names = ", ".join(device.name for device in spec.devices)
        return f"the capabilities {names}, {driver_edits.summary(spec, inventory)}"


def mode(_name: str) -> CapabilitiesMode:
    """The mode."""
    return CapabilitiesMode()
