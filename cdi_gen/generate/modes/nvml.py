# SPDX-License-Identifier: Apache-2.0
"""Modes auto and nvml: the GPUs and MIG devices, with the driver's files."""

from __future__ import annotations

from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import ContainerEdits, Spec
from cdi_gen.generate import driver_edits, gpus
from cdi_gen.generate.assemble import NO_DOUBLE_INJECTION, spec_kind, with_version
from cdi_gen.generate.device_nodes import DeviceEdits
from cdi_gen.generate.hook_command import makes_by_path_links
from cdi_gen.generate.options import DEFAULTS, Options
from cdi_gen.generate.selection import select
from cdi_gen.inventory import Inventory


def generate(inventory: Inventory, options: Options = DEFAULTS) -> Spec:
    """Return the spec of the host's GPUs and MIG devices.

    Raises:
        NoDriverError: the host has no GPU, or MIG is enabled and there is no MIG device.
        UnsafeError: a user other than root could change the hook program.
        UsageError: a requested device or capability does not exist, or an option is invalid.
        CdiGenError: the driver is split, no GPU is usable, the inventory is invalid, or the engine
            does not support the spec's version.
    """
    driver_edits.require_driver(inventory, options)
    selection = select(inventory, catalogue(), options)
    hooks = driver_edits.hooks(inventory, options)
    hooked = hooks is not None
    edits = DeviceEdits(inventory, options, links=makes_by_path_links(inventory.hook, options))
    common = ContainerEdits(
        env=(*driver_edits.variables(inventory, options, hooked=hooked), NO_DOUBLE_INJECTION),
        hooks=hooks or (),
        mounts=driver_edits.mounts(inventory, selection, catalogue(), options, hooked=hooked),
    ) | edits.nodes(selection.control_nodes)
    spec = Spec(
        cdi_version="",
        kind=spec_kind(options.vendor, options.class_),
        devices=gpus.devices(inventory, options, edits),
        container_edits=common,
    )
    return with_version(spec, options)


class NvmlMode:
    """Modes auto and nvml."""

    class_ = DEFAULTS.class_
    transports = False

    def spec(self, inventory: Inventory, options: Options) -> Spec:
        """Return the spec of `generate`."""
        return generate(inventory, options)

    def summary(self, spec: Spec, inventory: Inventory, options: Options) -> str:
        """Describe the numbers of GPUs and of MIG devices, the driver and the hooks."""
        full, mig = gpus.count(inventory, options)
        counts = [(full, "GPU"), (mig, "MIG device")]
        devices = ", ".join(f"{n} {noun}{'s' * (n != 1)}" for n, noun in counts if n) or "no GPU"
        return f"{devices}, {driver_edits.summary(spec, inventory)}"


def mode(_name: str) -> NvmlMode:
    """Return the mode; auto and nvml are the same."""
    return NvmlMode()
