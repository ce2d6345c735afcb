# SPDX-License-Identifier: Apache-2.0
"""Generates the spec ``management.nvidia.com/gpu``: one device, ``all``, with every node.

The GPU Operator's own containers request it: its validator, MIG manager and DCGM see all GPUs,
divided or not, with the access nodes of MIG and the IMEX channels.
"""

from __future__ import annotations

from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.errors import NoDriverError
from cdi_gen.generate import driver_edits
from cdi_gen.generate.assemble import NO_DOUBLE_INJECTION, spec_kind, with_version
from cdi_gen.generate.device_nodes import DeviceEdits, mig_nodes
from cdi_gen.generate.options import ALL, DEFAULTS, Options
from cdi_gen.generate.selection import select
from cdi_gen.inventory import CharDevice, Inventory

VENDOR = "management.nvidia.com"

NODES = "/dev/nvidia"
"""The beginning of the paths of all nodes; those of graphics are not among them."""
LEFT_OUT = ("/dev/nvidia-fs", "/dev/nvidia-nvswitch", "/dev/nvidia-nvlink")
"""Beginnings of the paths of nodes that NVIDIA's spec leaves out too."""

_STEPS = ("disable-device-node-modification",)
"""Steps that are left out: a management container may have nodes created."""


def spec(inventory: Inventory, options: Options = DEFAULTS) -> Spec:
    """Return the spec.

    Args:
        inventory: must have been gathered with ``Where(transports=True)``, the default.
        options: the vendor, the class, the hooks, and what an engine supports.

    Raises:
        NoDriverError: the host has no node of the driver.
        UnsafeError: a user other than root could change the hook program.
        CdiGenError: the driver is split, the inventory is invalid, or the engine does not support
            the spec's version.
    """
    options = options._replace(disabled_hooks=(*options.disabled_hooks, *_STEPS))
    driver_edits.require_driver(inventory, options)
    selection = select(inventory, catalogue(), options)
    hooks = driver_edits.hooks(inventory, options)
    hooked = hooks is not None
    edits = DeviceEdits(inventory, options)
    nodes = _nodes(inventory)
    if not nodes:
        raise NoDriverError(
            "no NVIDIA device nodes found",
            hint="create the nodes with: nvidia-modprobe -c 0 -u",
            code="CDG-G003",
        )
    common = ContainerEdits(
        env=(*driver_edits.variables(inventory, options, hooked=hooked), NO_DOUBLE_INJECTION),
        hooks=hooks or (),
        mounts=driver_edits.mounts(inventory, selection, catalogue(), options, hooked=hooked),
    )
    return with_version(
        Spec(
            cdi_version="",
            kind=spec_kind(options.vendor, options.class_),
            devices=(Device(name=ALL, container_edits=edits.nodes(nodes)),),
            container_edits=common,
        ),
        options,
    )


def _nodes(inventory: Inventory) -> tuple[CharDevice, ...]:
    """Return every node of the driver, each once, in the order of their paths."""
    gpus = {gpu.index: gpu for gpu in inventory.gpus}
    nodes = [node for gpu in inventory.gpus for node in gpu.nodes]
    for device in inventory.mig_devices:
        nodes += mig_nodes(device, gpus[device.gpu_index])
    nodes += [node for node in (inventory.mig_config, inventory.mig_monitor) if node]
    nodes += inventory.control_nodes
    nodes += inventory.transport_nodes
    by_path = {
        node.path: node
        for node in nodes
        if node.path.startswith(NODES) and not node.path.startswith(LEFT_OUT)
    }
    return tuple(by_path[path] for path in sorted(by_path))
