# SPDX-License-Identifier: Apache-2.0
"""Assembles a spec: its kind, its version, and its devices under each of their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from cdi_base.nvidia import cdi_name
from cdi_gen.cdi import names, versions
from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.generate.options import ALL, NONE, Options

NO_DOUBLE_INJECTION = "NVIDIA_VISIBLE_DEVICES=void"
"""Prevents nvidia-container-runtime-hook from injecting GPUs a second time if the image has
``NVIDIA_VISIBLE_DEVICES=all``."""


class Unit(NamedTuple):
    """A device that can be requested: a GPU, a MIG device or a node of a transport."""

    names: dict[str, str]
    """The unit's names, by strategy."""
    edits: ContainerEdits
    part_of: frozenset[str] = frozenset()
    """All names of a MIG device's GPU; each of these names requests all MIG devices of the GPU."""

    def is_requested(self, devices: Iterable[str]) -> bool:
        """Whether one of the requested devices is a name of the unit, of its GPU, or ``all``."""
        requested = {cdi_name(device) for device in devices}
        return ALL in requested or not requested.isdisjoint({*self.names.values(), *self.part_of})


def requested_devices(units: list[Unit], options: Options) -> list[Device]:
    """Return the requested units as devices, one for each name, then the device ``all``."""
    units = [unit for unit in units if unit.is_requested(options.devices)]
    devices = [
        Device(name=name, container_edits=unit.edits)
        for strategy in options.names
        for unit in units
        if (name := unit.names.get(strategy))
    ]
    if options.all_device:
        edits = _merged([unit.edits for unit in units])
        groups = tuple(sorted(edits.additional_gids))
        devices.append(Device(name=ALL, container_edits=replace(edits, additional_gids=groups)))
    return devices


def _merged(edits: list[ContainerEdits]) -> ContainerEdits:
    """Merge all edits in order, by halves: a host may have 2048 IMEX channels."""
    if len(edits) < 2:
        return edits[0] if edits else ContainerEdits()
    middle = len(edits) // 2
    return _merged(edits[:middle]) | _merged(edits[middle:])


def require_existing(
    devices: tuple[str, ...], units: list[Unit], always: frozenset[str] = frozenset({ALL, NONE})
) -> None:
    """Reject requested devices that are not a name of a unit under any strategy.

    Args:
        devices: the requested names.
        units: the devices of the host.
        always: names that every host accepts.

    Raises:
        UsageError: no device is requested, or a requested device does not exist.
    """
    if not devices:
        raise UsageError(
            "no device is requested", hint="request a device, all or none", code="CDG-U006"
        )
    device_names = always.union(*({*unit.names.values(), *unit.part_of} for unit in units))
    for device in devices:
        if cdi_name(device) not in device_names:
            raise UsageError(
                f"this host has no device {device}",
                hint="list the devices with: cdi-gen list",
                code="CDG-U005",
            )


def require_distinct(devices: list[Device], options: Options) -> None:
    """Reject a list of devices that engines would reject in a spec.

    Raises:
        UsageError: the list is empty, because no device has a name under the chosen strategies.
        CdiGenError: two devices have the same name.
    """
    if not devices:
        raise UsageError(
            f"no device has a name by {' or '.join(options.names) or 'no strategy'}",
            hint="name the devices by index: --device-name-strategy index",
            code="CDG-U006",
        )
    device_names = set()
    for device in devices:
        if device.name in device_names:
            message = f"the inventory has two devices with the name {device.name}"
            raise CdiGenError(message, code="CDG-G009")
        device_names.add(device.name)


def spec_kind(vendor: str, class_: str) -> str:
    """Return the kind of a spec, ``vendor/class``.

    Raises:
        UsageError: the CDI specification or an engine rejects the kind.
    """
    for part in (vendor, class_):
        if len(part) == 1:
            raise UsageError(
                f"the kind {vendor}/{class_} has a vendor or a class of a single letter",
                hint="engines with a CDI library before 1.1.1 crash when they read such a spec",
                code="CDG-U008",
            )
    try:
        return f"{names.check_vendor(vendor)}/{names.check_class(class_)}"
    except names.BadNameError as error:
        raise UsageError(str(error), code="CDG-U008") from error


def with_version(spec: Spec, options: Options) -> Spec:
    """Return the spec with the lowest CDI version that has all of its fields.

    Raises:
        CdiGenError: the version is newer than ``options.newest_version``.
    """
    version = versions.minimum_version(spec)
    if options.newest_version and versions.compare(version, options.newest_version) > 0:
        raise CdiGenError(
            f"the engine supports CDI {options.newest_version} at most, this spec needs {version}",
            hint="names that start with a digit need 0.5.0: try --device-name-strategy type-index",
            code="CDG-G006",
        )
    return replace(spec, cdi_version=version)
