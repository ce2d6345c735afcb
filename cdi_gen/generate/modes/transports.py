# SPDX-License-Identifier: Apache-2.0
"""Specs of the ways for data to and from GPUs that have device nodes of their own.

What ``cdi-gen generate --mode gds|mofed|gdrcopy|nvswitch|imex`` writes, and what the runtime shim
gives for ``NVIDIA_GDS``, ``NVIDIA_MOFED``, ``NVIDIA_GDRCOPY``, ``NVIDIA_NVSWITCH`` (device ``all``)
and ``NVIDIA_IMEX_CHANNELS`` (a device for each channel, and ``all``). Each mode has a kind of its
own, for a second ``nvidia.com/gpu=all`` would make the GPUs' unresolvable:

>>> from cdi_gen.generate.modes.transports import MODES, spec
>>> specs = [made for mode in MODES if (made := spec(mode, inventory))]

The inventory is to be gathered with ``Where(transports=True)``, the default.
"""

from __future__ import annotations

from cdi_gen.catalogue import Transport, catalogue
from cdi_gen.cdi.model import ContainerEdits, Device, Mount, Spec
from cdi_gen.errors import NoDriverError, UsageError
from cdi_gen.generate import (
    NO_DOUBLE_INJECTION,
    Unit,
    driver_files,
    kind_of,
    named,
    require_distinct,
    require_known,
    soundness,
    versioned,
)
from cdi_gen.generate.device_nodes import DeviceEdits
from cdi_gen.generate.options import ALL, Options
from cdi_gen.inventory import CharDevice, Inventory
from cdi_gen.paths import base_name

MODES = {transport.mode: transport for transport in catalogue().transports}

BY_NUMBER = "imex"
"""Its nodes are given one by one; those of the others are of use together only."""


def spec(mode: str, inventory: Inventory, options: Options | None = None) -> Spec | None:
    """The spec of one mode; None where the host has nothing of it.

    Args:
        mode: one of ``MODES``.
        inventory: of the host; whether its driver is whole is no matter here.
        options: None: kind ``nvidia.com/`` and the mode's own class. Those about libraries and
            hooks change nothing: such a spec has none.

    Raises:
        UsageError: a device that was asked for is not there, or the kind cannot be.
        CdiGenError: the inventory can be no host's, or the engine cannot take such a spec.
    """
    soundness.require(inventory)
    transport = MODES[mode]
    if options is None:
        options = Options(class_=transport.class_)
    nodes = [node for node in inventory.transport_nodes if _number(transport, node) is not None]
    if not nodes:
        return None
    edits = DeviceEdits(inventory, options)
    mounts = _mounts(transport, inventory)
    if mode == BY_NUMBER:
        devices = _numbered(transport, nodes, edits, options)
    else:
        _require_all(mode, options)
        together = edits.nodes(tuple(nodes)) | ContainerEdits(mounts=mounts)
        devices = [Device(name=ALL, container_edits=together)]
    made = Spec(
        cdi_version="",
        kind=kind_of(options.vendor, options.class_),
        devices=tuple(devices),
        container_edits=ContainerEdits(env=(NO_DOUBLE_INJECTION,)),
    )
    return versioned(made, options)


def nothing_of(mode: str, inventory: Inventory) -> NoDriverError:
    """Why there is no spec, for a person."""
    transport = MODES[mode]
    patterns = " or ".join(f"/dev/{entry.name}" for entry in transport.nodes)
    for left in inventory.left:
        if any(
            entry.number(left.path.removeprefix("/dev/")) is not None for entry in transport.nodes
        ):
            return NoDriverError(
                f"this host has no {transport.meaning}: {left.path}: {left.reason}"
            )
    return NoDriverError(
        f"this host has no {transport.meaning}: there is no {patterns}",
        hint="is the kernel module loaded, and are its nodes made?",
    )


def _number(transport: Transport, node: CharDevice) -> int | None:
    """The number in the node's name; None: the node is of another transport."""
    name = node.path.removeprefix("/dev/")
    return next((n for entry in transport.nodes if (n := entry.number(name)) is not None), None)


def _numbered(
    transport: Transport, nodes: list[CharDevice], edits: DeviceEdits, options: Options
) -> list[Device]:
    units: list[Unit] = [
        Unit(
            {"index": str(_number(transport, node)), "type-index": base_name(node.path)},
            edits.nodes((node,)),
        )
        for node in nodes
    ]
    require_known(options.devices, units, frozenset({ALL}))
    devices = named(units, options)
    require_distinct(devices, options)
    return devices


def _require_all(mode: str, options: Options) -> None:
    if set(options.devices) != {ALL} or not options.all_device:
        raise UsageError(f"--mode {mode} has one device, {ALL}: it cannot be left out")


def _mounts(transport: Transport, inventory: Inventory) -> tuple[Mount, ...]:
    return tuple(
        driver_files.bind(file.path, file.seen_at, driver_files.DATA)
        for file in inventory.transport_files
        if file.entry in transport.files
    )
