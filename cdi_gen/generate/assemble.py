# SPDX-License-Identifier: Apache-2.0
"""Assembles a spec: its kind, its devices under each of their names, its version."""

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
"""Keeps the legacy runtime hook from injecting a second time when the image asks for ``all``."""


class Unit(NamedTuple):
    """One thing that can be requested: a GPU, a MIG device, a node of a transport."""

    names: dict[str, str]
    """The unit's names, by strategy."""
    edits: ContainerEdits
    part_of: frozenset[str] = frozenset()
    """All names of the GPU that is divided into this unit: each of them requests all its parts."""

    def is_requested(self, devices: Iterable[str]) -> bool:
        """Whether the unit is among the requested devices, by any of its names."""
        requested = {cdi_name(device) for device in devices}
        return ALL in requested or not requested.isdisjoint({*self.names.values(), *self.part_of})


def named(units: list[Unit], options: Options) -> list[Device]:
    """The requested units, each under each of its names, then ``all`` of them."""
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
    """All edits in order, merged by halves: a host may have 2048 IMEX channels."""
    if len(edits) < 2:
        return edits[0] if edits else ContainerEdits()
    middle = len(edits) // 2
    return _merged(edits[:middle]) | _merged(edits[middle:])


def require_known(
    devices: tuple[str, ...], units: list[Unit], always: frozenset[str] = frozenset({ALL, NONE})
) -> None:
    """Reject a request for a device that no unit is called by any strategy.

    Raises:
        UsageError: no device is requested, or one that does not exist.
    """
    if not devices:
        raise UsageError(
            "no device was asked for", hint="ask for all, or for none", code="CDG-U006"
        )
    device_names = always.union(*({*unit.names.values(), *unit.part_of} for unit in units))
    for device in devices:
        if cdi_name(device) not in device_names:
            raise UsageError(
                f"there is no device {device} on this host",
                hint="see them with: cdi-gen list",
                code="CDG-U005",
            )


def require_distinct(devices: list[Device], options: Options) -> None:
    """Reject devices that engines would reject in a spec.

    Raises:
        UsageError: there is no device.
        CdiGenError: two devices have the same name.
    """
    if not devices:
        raise UsageError(
            f"no device has a name by {' or '.join(options.names) or 'no strategy'}",
            hint="name them by index: --device-name-strategy index",
            code="CDG-U006",
        )
    device_names = set()
    for device in devices:
        if device.name in device_names:
            message = f"the inventory has two devices that are called {device.name}"
            raise CdiGenError(message, code="CDG-G009")
        device_names.add(device.name)


def kind_of(vendor: str, class_: str) -> str:
    """The kind of a spec.

    Raises:
        UsageError: the standard or an engine rejects the kind.
    """
    for part in (vendor, class_):
        if len(part) == 1:
            raise UsageError(
                f"the kind {vendor}/{class_} has a vendor or a class of a single letter",
                hint="engines with a CDI library before 1.1.0 crash over such a file",
                code="CDG-U008",
            )
    try:
        return f"{names.check_vendor(vendor)}/{names.check_class(class_)}"
    except names.BadNameError as error:
        raise UsageError(str(error), code="CDG-U008") from error


def versioned(spec: Spec, options: Options) -> Spec:
    """The spec with the lowest CDI version that its fields allow.

    Raises:
        CdiGenError: the engine does not take that version.
    """
    version = versions.minimum_version(spec)
    if options.newest_version and versions.compare(version, options.newest_version) > 0:
        raise CdiGenError(
            f"the engine takes CDI {options.newest_version} at most, this spec needs {version}",
            hint="names that start with a digit need 0.5.0: try --device-name-strategy type-index",
            code="CDG-G006",
        )
    return replace(spec, cdi_version=version)
