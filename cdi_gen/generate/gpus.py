# SPDX-License-Identifier: Apache-2.0
"""Builds the devices of a GPU spec: GPUs and MIG devices by each name, ``all`` and ``none``."""

from __future__ import annotations

from cdi_gen.cdi.model import Device
from cdi_gen.errors import CdiGenError, NoDriverError, UsageError
from cdi_gen.generate.assemble import Unit, requested_devices, require_distinct, require_existing
from cdi_gen.generate.device_nodes import NO_EDITS, DeviceEdits
from cdi_gen.generate.naming import device_names
from cdi_gen.generate.options import NONE, Options
from cdi_gen.inventory import Gpu, Inventory

CREATE_MIG_DEVICE = "create a MIG device with: nvidia-smi mig -cgi PROFILE -C"


def devices(inventory: Inventory, options: Options, edits: DeviceEdits) -> tuple[Device, ...]:
    """Return every requested device under each of its names, then ``all``, then ``none``.

    Raises:
        NoDriverError: the host has no device.
        UsageError: a requested device does not exist, or no device has a name.
        CdiGenError: no GPU is usable, or two devices have the same name.
    """
    units = _units(inventory, edits)
    _require_mig_devices(inventory, options)
    require_existing(options.devices, units)
    if NONE in options.devices:
        return (Device(name=NONE, container_edits=NO_EDITS),)
    if not units:
        raise _no_device_error(inventory)
    requested = requested_devices(units, options)
    if options.all_device:
        requested.append(Device(name=NONE, container_edits=NO_EDITS))
    require_distinct(requested, options)
    return tuple(requested)


def count(inventory: Inventory, options: Options) -> tuple[int, int]:
    """Return the numbers of full GPUs and of MIG devices in a spec with these options."""
    if NONE in options.devices:
        return 0, 0
    units = _units(inventory, DeviceEdits(inventory, options))
    requested = [unit for unit in units if unit.is_requested(options.devices)]
    mig_devices = sum(bool(unit.part_of) for unit in requested)
    return len(requested) - mig_devices, mig_devices


def _units(inventory: Inventory, edits: DeviceEdits) -> list[Unit]:
    """Return every device that can be requested: full GPUs, then MIG devices.

    A GPU with MIG enabled cannot be used as a whole, so it is not in the list.
    """
    by_index: dict[int, Gpu] = {gpu.index: gpu for gpu in inventory.gpus}
    units = [
        Unit(device_names(gpu), edits.gpu(gpu)) for gpu in inventory.gpus if not gpu.mig_enabled
    ]
    for device in inventory.mig_devices:
        gpu = by_index[device.gpu_index]
        part_of = frozenset(device_names(gpu).values())
        units.append(Unit(device_names(device), edits.mig(device, gpu), part_of))
    return units


def _require_mig_devices(inventory: Inventory, options: Options) -> None:
    for gpu in _without_mig_devices(inventory):
        for name in set(options.devices).intersection(device_names(gpu).values()):
            raise UsageError(
                f"the GPU {name} has MIG enabled and no MIG device",
                hint=CREATE_MIG_DEVICE,
                code="CDG-U005",
            )


def _without_mig_devices(inventory: Inventory) -> list[Gpu]:
    """Return the GPUs that have MIG enabled and no MIG device."""
    divided = {device.gpu_index for device in inventory.mig_devices}
    return [gpu for gpu in inventory.gpus if gpu.mig_enabled and gpu.index not in divided]


def _no_device_error(inventory: Inventory) -> CdiGenError:
    undivided = {f"GPU {gpu.index} at {gpu.pci_address}" for gpu in _without_mig_devices(inventory)}
    for unusable in inventory.unusable_devices:
        if unusable.device not in undivided:
            return CdiGenError(
                f"no GPU of this host can be used: {unusable.device}: {unusable.reason}",
                code="CDG-G004",
            )
    if inventory.gpus:
        return NoDriverError(
            "every GPU of this host has MIG enabled, and none has a MIG device",
            hint=CREATE_MIG_DEVICE,
            code="CDG-G005",
        )
    return NoDriverError(
        f"the NVIDIA driver {inventory.require_driver().version} is loaded, but it controls no GPU",
        hint="look for the cause with: lspci -d 10de: ; dmesg | grep NVRM",
        code="CDG-G003",
    )
