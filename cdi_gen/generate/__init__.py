# SPDX-License-Identifier: Apache-2.0
"""From an inventory to a CDI spec: pure, so that the same inventory gives the same spec.

``generate`` makes the spec of the GPUs; ``generate_capabilities`` the one of the driver
capabilities as devices of their own. Both know NVIDIA's terms and the standard's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from cdi_gen.catalogue import Catalogue, catalogue
from cdi_gen.cdi import names, versions
from cdi_gen.cdi.model import ContainerEdits, Device, Hook, Mount, Spec
from cdi_gen.errors import CdiGenError, NoDriverError, UnsafeError, UsageError
from cdi_gen.generate import driver_files, image_layouts, soundness
from cdi_gen.generate.device_nodes import EMPTY, DeviceEdits
from cdi_gen.generate.hook_command import hooks, makes_by_path_links
from cdi_gen.generate.naming import in_cdi, names_of
from cdi_gen.generate.options import ALL, NONE, Options
from cdi_gen.generate.selection import Selection, select, stem
from cdi_gen.inventory import Gpu, Inventory
from cdi_gen.paths import parent

DEFAULTS = Options()


class Unit(NamedTuple):
    """Something that can be asked for: a GPU, a MIG device, a node of a transport."""

    names: dict[str, str]
    """By strategy."""
    edits: ContainerEdits
    part_of: frozenset[str] = frozenset()
    """All names of the GPU that is divided into this: they ask for all of its parts."""

    def is_asked_for(self, devices: Iterable[str]) -> bool:
        """Whether it is among devices that are asked for, by whichever name."""
        asked = {in_cdi(device) for device in devices}
        return ALL in asked or not asked.isdisjoint({*self.names.values(), *self.part_of})


MAKE_INSTANCES = "create instances with: nvidia-smi mig -cgi PROFILE -C"

NO_DOUBLE_INJECTION = "NVIDIA_VISIBLE_DEVICES=void"
"""Stops the legacy runtime hook from injecting a second time when the image asks for ``all``."""


def generate(inventory: Inventory, options: Options = DEFAULTS) -> Spec:
    """The spec of the host's GPUs and MIG devices.

    Raises:
        NoDriverError: the host has nothing to give: no GPU, or MIG enabled and no MIG device.
        UnsafeError: somebody other than root could change the hook program.
        UsageError: a device or capability that was asked for is not there.
        CdiGenError: the driver is split, every GPU is broken, the inventory can be no host's, or
            the engine cannot take such a spec.
    """
    soundness.require(inventory)
    if options.library_directories is not None:
        soundness.require_directories(options.library_directories)
    _require_whole_driver(inventory)
    known = catalogue()
    selection = select(inventory, known, options)
    hook = _hook(inventory, options)
    edits = DeviceEdits(inventory, options, links=makes_by_path_links(inventory.hook, options))
    common = ContainerEdits(
        env=(
            *_for_programs(inventory, options, hooked=hook is not None),
            NO_DOUBLE_INJECTION,
        ),
        hooks=hook or (),
        mounts=_mounts(inventory, selection, known, options, hooked=hook is not None),
    ) | edits.nodes(selection.control_nodes)
    spec = Spec(
        cdi_version="",
        kind=kind_of(options.vendor, options.class_),
        devices=_devices(inventory, options, edits),
        container_edits=common,
    )
    return versioned(spec, options)


def generate_capabilities(inventory: Inventory, options: Options) -> Spec:
    """The driver capabilities as devices: ``--device nvidia.com/cap=graphics`` beside a GPU.

    They carry files and control nodes; links and the loader's cache are the GPU spec's matter,
    whose one hook serves whatever was composed.
    """
    soundness.require(inventory)
    if options.library_directories is not None:
        soundness.require_directories(options.library_directories)
    _require_whole_driver(inventory)
    known = catalogue()
    hooked = _hook(inventory, options) is not None
    edits = DeviceEdits(inventory, options)
    devices = []
    for capability in known.capabilities:
        selection = select(inventory, known, options._replace(capabilities=(capability.name,)))
        found = edits.nodes(selection.control_nodes) | ContainerEdits(
            mounts=_mounts(inventory, selection, known, options, hooked=hooked)
        )
        if selection.libraries or found.mounts:
            devices.append(Device(name=capability.name, container_edits=found))
    if not devices:
        raise CdiGenError("the inventory has no file of the driver")
    spec = Spec(
        cdi_version="", kind=kind_of(options.vendor, options.class_), devices=tuple(devices)
    )
    return versioned(spec, options)


def _require_whole_driver(inventory: Inventory) -> None:
    loaded, installed = inventory.driver.version, inventory.driver.library_version
    if loaded != installed:
        raise CdiGenError(
            f"the driver is split: its libraries are {installed}, the loaded kernel module is "
            f"{loaded}; no program in a container could use the GPU",
            hint="reboot, or unload and load the nvidia modules; an existing spec was left alone",
        )


def _hook(inventory: Inventory, options: Options) -> tuple[Hook, ...] | None:
    """The spec's hooks; None for a spec that has to do without."""
    program = inventory.hook
    if not options.hooks or program is None:
        return None
    if program.unsafe:
        raise UnsafeError(
            f"the hook program {program.path} cannot be trusted: {program.unsafe}",
            hint="engines run it as root. Install it with: sudo cdi-gen hook install; "
            "or write a spec that needs none: --hooks=none",
        )
    return hooks(program.path, options, inventory)


def _mounts(
    inventory: Inventory, selection: Selection, known: Catalogue, options: Options, *, hooked: bool
) -> tuple[Mount, ...]:
    """All mounts, parents before children, as engines apply them."""
    found = (
        driver_files.mounts(inventory, selection)
        if hooked
        else driver_files.mounts_without_hook(
            inventory, selection, known, options.library_directories
        )
    )
    found += driver_files.file_mounts(selection, known, inventory.architecture)
    unique = {mount.container_path: mount for mount in reversed(found)}
    return tuple(
        sorted(
            unique.values(), key=lambda each: (each.container_path.count("/"), each.container_path)
        )
    )


def _for_programs(inventory: Inventory, options: Options, *, hooked: bool) -> tuple[str, ...]:
    """Variables that tell programs where libcuda is: its one directory.

    Triton reads ``TRITON_LIBCUDA_PATH``, or else asks ``ldconfig -p``, which knows the driver only
    if the hook has made the loader's cache.
    """
    libcuda = next((e for e in inventory.libraries if stem(e) == "libcuda" and e.bits == 64), None)
    if libcuda is None:
        return ()
    if hooked:
        directory = parent(driver_files.in_container(inventory, libcuda.path))
    else:
        directory = (options.library_directories or image_layouts.LOADER_DIRECTORIES)[0]
    told = (f"NVIDIA_CTK_LIBCUDA_DIR={directory}",)
    cached = hooked and options.runs("update-ldcache")
    return told if cached else (*told, f"TRITON_LIBCUDA_PATH={directory}")


def _devices(inventory: Inventory, options: Options, edits: DeviceEdits) -> tuple[Device, ...]:
    """Every device under each of its names, then ``all``, then ``none``."""
    units = _units(inventory, edits)
    _require_parts(inventory, options)
    require_known(options.devices, units)
    if NONE in options.devices:
        return (Device(name=NONE, container_edits=EMPTY),)
    if not units:
        raise _no_device(inventory)
    devices = named(units, options)
    if options.all_device:
        devices.append(Device(name=NONE, container_edits=EMPTY))
    require_distinct(devices, options)
    return tuple(devices)


def named(units: list[Unit], options: Options) -> list[Device]:
    """The units that were asked for, each under each of its names, then ``all`` of them."""
    units = [each for each in units if each.is_asked_for(options.devices)]
    devices = [
        Device(name=name, container_edits=unit.edits)
        for strategy in options.names
        for unit in units
        if (name := unit.names.get(strategy))
    ]
    if options.all_device:
        together = _together([unit.edits for unit in units])
        devices.append(Device(name=ALL, container_edits=_sorted_nodes(together)))
    return devices


def _together(edits: list[ContainerEdits]) -> ContainerEdits:
    """All of them, in order; by halves, for a host may have 2048 IMEX channels."""
    if len(edits) < 2:
        return edits[0] if edits else ContainerEdits()
    middle = len(edits) // 2
    return _together(edits[:middle]) | _together(edits[middle:])


def require_distinct(devices: list[Device], options: Options) -> None:
    """Refuse a spec that engines would refuse.

    Raises:
        UsageError: it has no device.
        CdiGenError: it has two of one name.
    """
    if not devices:
        raise UsageError(
            f"no device has a name by {' or '.join(options.names) or 'no strategy'}",
            hint="name them by index: --device-name-strategy index",
        )
    seen = set()
    for device in devices:
        if device.name in seen:
            raise CdiGenError(f"the inventory has two devices that are called {device.name}")
        seen.add(device.name)


def _units(inventory: Inventory, edits: DeviceEdits) -> list[Unit]:
    """All that can be asked for: full GPUs, then MIG devices.

    A GPU that is divided into MIG devices cannot be used whole and is not among them.
    """
    by_index: dict[int, Gpu] = {gpu.index: gpu for gpu in inventory.gpus}
    units = [Unit(names_of(gpu), edits.gpu(gpu)) for gpu in inventory.gpus if not gpu.mig_enabled]
    for device in inventory.mig_devices:
        gpu = by_index[device.gpu_index]
        part_of = frozenset(names_of(gpu).values())
        units.append(Unit(names_of(device), edits.mig(device, gpu), part_of))
    return units


def count(inventory: Inventory, options: Options) -> tuple[int, int]:
    """How many full GPUs, and how many MIG devices, a spec with these options has."""
    if NONE in options.devices:
        return 0, 0
    units = _units(inventory, DeviceEdits(inventory, options))
    asked = [unit for unit in units if unit.is_asked_for(options.devices)]
    parts = sum(bool(unit.part_of) for unit in asked)
    return len(asked) - parts, parts


def require_known(
    devices: tuple[str, ...], units: list[Unit], always: frozenset[str] = frozenset({ALL, NONE})
) -> None:
    """Refuse what no unit is called by any strategy.

    Raises:
        UsageError: nothing was asked for, or something that is not there.
    """
    if not devices:
        raise UsageError("no device was asked for", hint="ask for all, or for none")
    known = always.union(*({*unit.names.values(), *unit.part_of} for unit in units))
    for device in devices:
        if in_cdi(device) not in known:
            raise UsageError(
                f"there is no device {device} on this host", hint="see them with: cdi-gen list"
            )


def _require_parts(inventory: Inventory, options: Options) -> None:
    for gpu in _empty(inventory):
        for name in set(options.devices).intersection(names_of(gpu).values()):
            raise UsageError(
                f"{name} is a GPU that has MIG enabled and no MIG device", hint=MAKE_INSTANCES
            )


def _empty(inventory: Inventory) -> list[Gpu]:
    """GPUs that have MIG enabled and no MIG device."""
    divided = {device.gpu_index for device in inventory.mig_devices}
    return [gpu for gpu in inventory.gpus if gpu.mig_enabled and gpu.index not in divided]


def _no_device(inventory: Inventory) -> CdiGenError:
    empty = {f"GPU {gpu.index} at {gpu.pci_address}" for gpu in _empty(inventory)}
    for skipped in inventory.skipped:
        if skipped.device not in empty:
            return CdiGenError(
                f"no GPU of this host can be used: {skipped.device}: {skipped.reason}"
            )
    if inventory.gpus:
        return NoDriverError(
            "every GPU of this host has MIG enabled, and none has a MIG device",
            hint=MAKE_INSTANCES,
        )
    return NoDriverError(
        f"the NVIDIA driver {inventory.driver.version} is loaded, but it has no GPU",
        hint="look at: lspci -d 10de: ; dmesg | grep NVRM",
    )


def _sorted_nodes(edits: ContainerEdits) -> ContainerEdits:
    return replace(edits, additional_gids=tuple(sorted(edits.additional_gids)))


def kind_of(vendor: str, class_: str) -> str:
    """The kind of a spec.

    Raises:
        UsageError: the standard or an engine does not take it.
    """
    for part in (vendor, class_):
        if len(part) == 1:
            raise UsageError(
                f"the kind {vendor}/{class_} has a vendor or a class of a single letter",
                hint="engines with a CDI library before 1.1.0 crash over such a file",
            )
    try:
        return f"{names.check_vendor(vendor)}/{names.check_class(class_)}"
    except names.BadNameError as error:
        raise UsageError(str(error)) from error


def versioned(spec: Spec, options: Options) -> Spec:
    """The spec with the lowest version that its fields allow.

    Raises:
        CdiGenError: the engine does not take that version.
    """
    version = versions.minimum_version(spec)
    if options.newest_version and versions.compare(version, options.newest_version) > 0:
        raise CdiGenError(
            f"the engine takes CDI {options.newest_version} at most, this spec needs {version}",
            hint="names that start with a digit need 0.5.0: try --device-name-strategy type-index",
        )
    return replace(spec, cdi_version=version)
