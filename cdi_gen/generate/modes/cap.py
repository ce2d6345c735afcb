# SPDX-License-Identifier: Apache-2.0
"""Mode cap: a device for each driver capability."""

from __future__ import annotations

from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.generate import driver_edits
from cdi_gen.generate.assemble import spec_kind, with_version
from cdi_gen.generate.device_nodes import DeviceEdits
from cdi_gen.generate.options import TREE, Options
from cdi_gen.generate.selection import select
from cdi_gen.inventory import Inventory


def generate_capabilities(inventory: Inventory, options: Options) -> Spec:
    """Return the spec of the driver capabilities: ``--device nvidia.com/cap=graphics`` with a GPU.

    The devices have files and control nodes. The hook of the GPU's spec creates the links and the
    loader's cache for any combination of capabilities.

    Raises:
        UnsafeError: a user other than root could change the hook program.
        UsageError: an option is invalid.
        CdiGenError: the driver is split or has no file, the inventory is invalid, or the engine
            does not support the spec's version.
    """
    driver_edits.require_driver(inventory, options)
    if options.form == TREE:
        raise UsageError(
            "--form tree is not supported with --mode cap: the tree is mounted as a whole, and not "
            "for each capability",
            hint="use --form files",
            code="CDG-U012",
        )
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
        cdi_version="", kind=spec_kind(options.vendor, options.class_), devices=tuple(devices)
    )
    return with_version(spec, options)


class CapabilitiesMode:
    """Mode cap."""

    class_ = "cap"
    transports = False

    def spec(self, inventory: Inventory, options: Options) -> Spec:
        """Return the spec of `generate_capabilities`."""
        return generate_capabilities(inventory, options)

    def summary(self, spec: Spec, inventory: Inventory, options: Options) -> str:  # noqa: ARG002
        """Describe the capabilities, the driver and the hooks."""
        names = ", ".join(device.name for device in spec.devices)
        return f"the capabilities {names}, {driver_edits.summary(spec, inventory)}"


def mode(_name: str) -> CapabilitiesMode:
    """Return the mode."""
    return CapabilitiesMode()
