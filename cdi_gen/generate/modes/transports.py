# SPDX-License-Identifier: Apache-2.0
"""Modes gds, mofed, gdrcopy, nvswitch, imex: device nodes for data transfer to and from GPUs.

These are the specs of ``cdi-gen generate --mode gds`` etc., and what the runtime shim gives for
``NVIDIA_GDS``, ``NVIDIA_MOFED``, ``NVIDIA_GDRCOPY``, ``NVIDIA_NVSWITCH`` (device ``all``)
and ``NVIDIA_IMEX_CHANNELS`` (a device for each channel, and ``all``). Each mode has a kind of its
own, because a second ``nvidia.com/gpu=all`` would make the GPUs' unresolvable:

>>> from cdi_gen.generate.modes.transports import MODES, spec
>>> specs = [spec(mode, inventory) for mode in MODES]  # None: the host has no such device

The inventory must have been gathered with ``Where(transports=True)``, the default.
"""

from __future__ import annotations

from cdi_gen.catalogue import Transport, catalogue
from cdi_gen.cdi.model import ContainerEdits, Device, Mount, Spec
from cdi_gen.errors import NoDriverError, UsageError
from cdi_gen.generate import driver_files
from cdi_gen.generate.assemble import (
    NO_DOUBLE_INJECTION,
    Unit,
    kind_of,
    named,
    require_distinct,
    require_known,
    versioned,
)
from cdi_gen.generate.device_nodes import DeviceEdits
from cdi_gen.generate.options import ALL, Options
from cdi_gen.inventory import CharDevice, Inventory, validation
from cdi_gen.paths import base_name

MODES = ("gds", "mofed", "gdrcopy", "nvswitch", "imex")
"""The transports of the catalogue, in its order."""

NUMBERED = "imex"
"""The mode whose nodes are devices of their own; the nodes of the others serve together only."""


class TransportMode:
    """The device nodes of one transport as devices."""

    transports = True

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def class_(self) -> str:
        """The transport's own class."""
        return transport(self._name).class_

    def spec(self, inventory: Inventory, options: Options) -> Spec:
        """As the function `spec`; without a device it is an error."""
        transport_spec = spec(self._name, inventory, options)
        if transport_spec is None:
            raise nothing_of(self._name, inventory)
        return transport_spec

    def summary(self, spec: Spec, inventory: Inventory, options: Options) -> str:  # noqa: ARG002
        """The number of device nodes."""
        edits = [device.container_edits for device in spec.devices]
        number = len({node.path for edit in edits for node in edit.device_nodes})
        return f"{number} device node{'s' if number != 1 else ''}, CDI {spec.cdi_version}"


def mode(name: str) -> TransportMode:
    """The mode of one of ``MODES``."""
    return TransportMode(name)


def transport(mode: str) -> Transport:
    """The catalogue's entry for a mode."""
    return next(entry for entry in catalogue().transports if entry.mode == mode)


def spec(mode: str, inventory: Inventory, options: Options | None = None) -> Spec | None:
    """The spec of one mode; None if the host has none of its devices.

    Args:
        mode: one of ``MODES``.
        inventory: the host's; its driver may be split.
        options: None: kind ``nvidia.com/`` and the mode's own class. Options for libraries and
            hooks have no effect: the spec has none.

    Raises:
        UsageError: a device that was asked for does not exist, or the kind is invalid.
        CdiGenError: no host can have such an inventory, or the engine cannot take such a spec.
    """
    validation.require(inventory)
    entry = transport(mode)
    if options is None:
        options = Options(class_=entry.class_)
    nodes = [node for node in inventory.transport_nodes if _number(entry, node) is not None]
    if not nodes:
        return None
    edits = DeviceEdits(inventory, options)
    mounts = _mounts(entry, inventory)
    if mode == NUMBERED:
        devices = _numbered(entry, nodes, edits, options)
    else:
        _require_all(mode, options)
        container_edits = edits.nodes(tuple(nodes)) | ContainerEdits(mounts=mounts)
        devices = [Device(name=ALL, container_edits=container_edits)]
    transport_spec = Spec(
        cdi_version="",
        kind=kind_of(options.vendor, options.class_),
        devices=tuple(devices),
        container_edits=ContainerEdits(env=(NO_DOUBLE_INJECTION,)),
    )
    return versioned(transport_spec, options)


def nothing_of(mode: str, inventory: Inventory) -> NoDriverError:
    """The error that says why there is no spec."""
    entry = transport(mode)
    patterns = " or ".join(f"/dev/{node.name}" for node in entry.nodes)
    for left in inventory.ignored:
        if any(node.number(left.path.removeprefix("/dev/")) is not None for node in entry.nodes):
            message = f"this host has no {entry.meaning}: {left.path}: {left.reason}"
            return NoDriverError(message, code="CDG-G008")
    return NoDriverError(
        f"this host has no {entry.meaning}: there is no {patterns}",
        hint="is the kernel module loaded, and are its nodes made?",
        code="CDG-G008",
    )


def _number(entry: Transport, node: CharDevice) -> int | None:
    """The number in the node's name; None if the node is of another transport."""
    name = node.path.removeprefix("/dev/")
    return next((n for pattern in entry.nodes if (n := pattern.number(name)) is not None), None)


def _numbered(
    entry: Transport, nodes: list[CharDevice], edits: DeviceEdits, options: Options
) -> list[Device]:
    units: list[Unit] = [
        Unit(
            {"index": str(_number(entry, node)), "type-index": base_name(node.path)},
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
        message = f"--mode {mode} has one device, {ALL}: it cannot be left out"
        raise UsageError(message, code="CDG-U006")


def _mounts(entry: Transport, inventory: Inventory) -> tuple[Mount, ...]:
    return tuple(
        driver_files.bind(file.path, file.seen_at, driver_files.DATA)
        for file in inventory.transport_files
        if file.entry in entry.files
    )
