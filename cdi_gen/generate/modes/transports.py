# SPDX-License-Identifier: Apache-2.0
"""Modes gds, mofed, gdrcopy, nvswitch, imex: device nodes for data transfer to and from GPUs.

``cdi-gen generate --mode gds`` etc. write these specs. The runtime shim injects their devices for
``NVIDIA_GDS``, ``NVIDIA_MOFED``, ``NVIDIA_GDRCOPY``, ``NVIDIA_NVSWITCH`` (device ``all``) and
``NVIDIA_IMEX_CHANNELS`` (a device for each channel, and ``all``). Each mode has a kind of its own,
because a second ``nvidia.com/gpu=all`` would conflict with the device of all GPUs:

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
    requested_devices,
    require_distinct,
    require_existing,
    spec_kind,
    with_version,
)
from cdi_gen.generate.device_nodes import DeviceEdits
from cdi_gen.generate.options import ALL, Options
from cdi_gen.inventory import CharDevice, Inventory, validation
from cdi_gen.paths import base_name

MODES = ("gds", "mofed", "gdrcopy", "nvswitch", "imex")
"""The transports of the catalogue, in its order."""

NUMBERED = "imex"
"""The mode with a device for each node; each other mode has one device of all of its nodes."""


class TransportMode:
    """A mode with the device nodes of one transport."""

    transports = True

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def class_(self) -> str:
        """The class of the transport's kind."""
        return transport(self._name).class_

    def spec(self, inventory: Inventory, options: Options) -> Spec:
        """Return the spec of the function `spec`; it is an error if the host has no device."""
        transport_spec = spec(self._name, inventory, options)
        if transport_spec is None:
            raise no_device_error(self._name, inventory)
        return transport_spec

    def summary(self, spec: Spec, inventory: Inventory, options: Options) -> str:  # noqa: ARG002
        """Describe the number of device nodes and the CDI version."""
        edits = [device.container_edits for device in spec.devices]
        node_count = len({node.path for edit in edits for node in edit.device_nodes})
        return f"{node_count} device node{'s' if node_count != 1 else ''}, CDI {spec.cdi_version}"


def mode(name: str) -> TransportMode:
    """Return the mode of a name in ``MODES``."""
    return TransportMode(name)


def transport(mode: str) -> Transport:
    """Return the catalogue's entry of a mode."""
    return next(entry for entry in catalogue().transports if entry.mode == mode)


def spec(mode: str, inventory: Inventory, options: Options | None = None) -> Spec | None:
    """Return the spec of one mode; None if the host has none of its devices.

    Args:
        mode: one of ``MODES``.
        inventory: the host's inventory; the driver may be split.
        options: None for vendor ``nvidia.com`` and the mode's own class. Options for libraries and
            hooks have no effect, because the spec has no library and no hook.

    Raises:
        UsageError: a requested device does not exist, or the kind is invalid.
        CdiGenError: the inventory is invalid, or the engine does not support the spec's version.
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
        devices = _node_devices(entry, nodes, edits, options)
    else:
        _require_all(mode, options)
        container_edits = edits.nodes(tuple(nodes)) | ContainerEdits(mounts=mounts)
        devices = [Device(name=ALL, container_edits=container_edits)]
    transport_spec = Spec(
        cdi_version="",
        kind=spec_kind(options.vendor, options.class_),
        devices=tuple(devices),
        container_edits=ContainerEdits(env=(NO_DOUBLE_INJECTION,)),
    )
    return with_version(transport_spec, options)


def no_device_error(mode: str, inventory: Inventory) -> NoDriverError:
    """Return the error that says why the host has no device of the mode."""
    entry = transport(mode)
    patterns = " or ".join(f"/dev/{node.name}" for node in entry.nodes)
    for ignored in inventory.ignored:
        name = ignored.path.removeprefix("/dev/")
        if any(node.number(name) is not None for node in entry.nodes):
            message = f"this host has no {entry.meaning}: {ignored.path}: {ignored.reason}"
            return NoDriverError(message, code="CDG-G008")
    return NoDriverError(
        f"this host has no {entry.meaning}: no device node {patterns}",
        hint="check that the kernel module is loaded and that its device nodes exist",
        code="CDG-G008",
    )


def _number(entry: Transport, node: CharDevice) -> int | None:
    """Return the number in the node's name; None if the node is of another transport."""
    name = node.path.removeprefix("/dev/")
    return next((n for pattern in entry.nodes if (n := pattern.number(name)) is not None), None)


def _node_devices(
    entry: Transport, nodes: list[CharDevice], edits: DeviceEdits, options: Options
) -> list[Device]:
    units: list[Unit] = [
        Unit(
            {"index": str(_number(entry, node)), "type-index": base_name(node.path)},
            edits.nodes((node,)),
        )
        for node in nodes
    ]
    require_existing(options.devices, units, frozenset({ALL}))
    devices = requested_devices(units, options)
    require_distinct(devices, options)
    return devices


def _require_all(mode: str, options: Options) -> None:
    if set(options.devices) != {ALL} or not options.all_device:
        message = f"--mode {mode} has one device, {ALL}, which cannot be left out"
        raise UsageError(message, code="CDG-U006")


def _mounts(entry: Transport, inventory: Inventory) -> tuple[Mount, ...]:
    return tuple(
        driver_files.bind(file.path, file.seen_at, driver_files.DATA)
        for file in inventory.transport_files
        if file.entry in entry.files
    )
