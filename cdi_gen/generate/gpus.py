# SPDX-License-Identifier: Apache-2.0
"""The devices of a GPU spec: full GPUs and MIG devices under each of their names, all, none."""

from __future__ import annotations

from cdi_gen.cdi.model import Device
from cdi_gen.errors import CdiGenError, NoDriverError, UsageError
from cdi_gen.generate.assemble import Unit, named, require_distinct, require_known
from cdi_gen.generate.device_nodes import EMPTY, DeviceEdits
from cdi_gen.generate.naming import names_of
from cdi_gen.generate.options import NONE, Options
from cdi_gen.inventory import Gpu, Inventory

MAKE_INSTANCES = "create instances with: nvidia-smi mig -cgi PROFILE -C"


def devices(inventory: Inventory, options: Options, edits: DeviceEdits) -> tuple[Device, ...]:
    """Every requested device under each of its names, then ``all``, then ``none``.

    Raises:
        NoDriverError: the host has no device.
        UsageError: a device that was asked for does not exist.
        CdiGenError: every GPU is broken, or two devices have the same name.
    """
    units = _units(inventory, edits)
    _require_mig_devices(inventory, options)
    require_known(options.devices, units)
    if NONE in options.devices:
        return (Device(name=NONE, container_edits=EMPTY),)
    if not units:
        raise _no_device(inventory)
    requested = named(units, options)
    if options.all_device:
        requested.append(Device(name=NONE, container_edits=EMPTY))
    require_distinct(requested, options)
    return tuple(requested)


def count(inventory: Inventory, options: Options) -> tuple[int, int]:
    """How many full GPUs, and how many MIG devices, a spec with these options has."""
    if NONE in options.devices:
        return 0, 0
    units = _units(inventory, DeviceEdits(inventory, options))
    requested = [unit for unit in units if unit.is_requested(options.devices)]
    mig_devices = sum(bool(unit.part_of) for unit in requested)
    return len(requested) - mig_devices, mig_devices


def _units(inventory: Inventory, edits: DeviceEdits) -> list[Unit]:
    """All that can be requested: full GPUs, then MIG devices.

    A GPU that is divided into MIG devices cannot be used whole and is not among them.
    """
    by_index: dict[int, Gpu] = {gpu.index: gpu for gpu in inventory.gpus}
    units = [Unit(names_of(gpu), edits.gpu(gpu)) for gpu in inventory.gpus if not gpu.mig_enabled]
    for device in inventory.mig_devices:
        gpu = by_index[device.gpu_index]
        part_of = frozenset(names_of(gpu).values())
        units.append(Unit(names_of(device), edits.mig(device, gpu), part_of))
    return units


def _require_mig_devices(inventory: Inventory, options: Options) -> None:
    for gpu in _without_mig_devices(inventory):
        for name in set(options.devices).intersection(names_of(gpu).values()):
            raise UsageError(
                f"{name} is a GPU that has MIG enabled and no MIG device",
                hint=MAKE_INSTANCES,
                code="CDG-U005",
            )


def _without_mig_devices(inventory: Inventory) -> list[Gpu]:
    """GPUs that have MIG enabled and no MIG device."""
    divided = {device.gpu_index for device in inventory.mig_devices}
    return [gpu for gpu in inventory.gpus if gpu.mig_enabled and gpu.index not in divided]


def _no_device(inventory: Inventory) -> CdiGenError:
    empty = {f"GPU {gpu.index} at {gpu.pci_address}" for gpu in _without_mig_devices(inventory)}
    for skipped in inventory.unusable_devices:
        if skipped.device not in empty:
            return CdiGenError(
                f"no GPU of this host can be used: {skipped.device}: {skipped.reason}",
                code="CDG-G004",
            )
    if inventory.gpus:
        return NoDriverError(
            "every GPU of this host has MIG enabled, and none has a MIG device",
            hint=MAKE_INSTANCES,
            code="CDG-G005",
        )
    return NoDriverError(
        f"the NVIDIA driver {inventory.require_driver().version} is loaded, but it has no GPU",
        hint="look at: lspci -d 10de: ; dmesg | grep NVRM",
        code="CDG-G003",
    )
