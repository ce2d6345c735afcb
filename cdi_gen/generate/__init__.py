# SPDX-License-Identifier: Apache-2.0
"""From an inventory to a CDI spec: pure, so that the same inventory gives the same spec.

``generate`` makes the spec of the GPUs; ``generate_capabilities`` the one of the driver
capabilities as devices of their own. Both know NVIDIA's terms and the standard's.
"""

from __future__ import annotations

from dataclasses import replace

from cdi_gen.catalogue import Catalogue, catalogue
from cdi_gen.cdi import names, versions
from cdi_gen.cdi.model import ContainerEdits, Device, Hook, Mount, Spec
from cdi_gen.errors import CdiGenError, NoDriverError, UnsafeError, UsageError
from cdi_gen.generate import driver, image_layouts, soundness
from cdi_gen.generate.devices import EMPTY, DeviceEdits
from cdi_gen.generate.hooks import hooks
from cdi_gen.generate.naming import gpu_name, mig_name
from cdi_gen.generate.options import ALL, NONE, STRATEGIES, Options
from cdi_gen.generate.selection import Selection, select, stem
from cdi_gen.inventory import Gpu, Inventory
from cdi_gen.paths import parent

DEFAULTS = Options()

Unit = tuple[dict[str, str], ContainerEdits]
"""(names by strategy, edits) of something that can be asked for."""

NO_DOUBLE_INJECTION = "NVIDIA_VISIBLE_DEVICES=void"
"""Stops the legacy runtime hook from injecting a second time when the image asks for ``all``."""


def generate(inventory: Inventory, options: Options = DEFAULTS) -> Spec:
    """The spec of the host's GPUs and MIG devices.

    Raises:
        NoDriverError: the host has nothing to give: no GPU, or MIG enabled and no MIG device.
        UnsafeError: somebody other than root could change the hook program.
        UsageError: a device or capability that was asked for is not there.
        CdiGenError: the driver is split, every GPU is broken, the inventory can be no host's, or
            the engine can not take such a spec.
    """
    soundness.require(inventory)
    if options.library_directories is not None:
        soundness.require_directories(options.library_directories)
    _require_whole_driver(inventory)
    known = catalogue()
    wanted = known.select(options.capabilities)
    selection = select(inventory, known, wanted)
    hook = _hook(inventory, options)
    edits = DeviceEdits(inventory, options)
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
        selection = select(inventory, known, known.select([capability.name]))
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
            f"the hook program {program.path} can not be trusted: {program.unsafe}",
            hint="engines run it as root. Install it with: sudo cdi-gen hook install; "
            "or write a spec that needs none: --hooks=none",
        )
    return hooks(program.path, options, inventory)


def _mounts(
    inventory: Inventory, selection: Selection, known: Catalogue, options: Options, *, hooked: bool
) -> tuple[Mount, ...]:
    """All mounts, parents before children, as engines apply them."""
    found = (
        driver.mounts(inventory, selection)
        if hooked
        else driver.mounts_without_hook(inventory, selection, known, options.library_directories)
    )
    found += driver.file_mounts(selection, known, inventory.architecture)
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
        directory = parent(driver.in_container(inventory, libcuda.path))
    else:
        directory = (options.library_directories or image_layouts.LOADER_DIRECTORIES)[0]
    told = (f"NVIDIA_CTK_LIBCUDA_DIR={directory}",)
    cached = hooked and options.runs("update-ldcache")
    return told if cached else (*told, f"TRITON_LIBCUDA_PATH={directory}")


def _devices(inventory: Inventory, options: Options, edits: DeviceEdits) -> tuple[Device, ...]:
    """Every device under each of its names, then ``all``, then ``none``."""
    units = _units(inventory, edits)
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
    if ALL not in options.devices:
        units = [each for each in units if not set(options.devices).isdisjoint(each[0].values())]
    devices = [
        Device(name=name, container_edits=found)
        for strategy in options.names
        for by_strategy, found in units
        if (name := by_strategy.get(strategy))
    ]
    if options.all_device:
        together = _together([found for _, found in units])
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

    A GPU that is divided into MIG devices can not be used whole and is not among them.
    """
    by_index: dict[int, Gpu] = {gpu.index: gpu for gpu in inventory.gpus}
    units = [
        ({each: name for each in STRATEGIES if (name := gpu_name(gpu, each))}, edits.gpu(gpu))
        for gpu in inventory.gpus
        if not gpu.mig_enabled
    ]
    for device in inventory.mig_devices:
        by_strategy = {each: name for each in STRATEGIES if (name := mig_name(device, each))}
        units.append((by_strategy, edits.mig(device, by_index[device.gpu_index])))
    return units


def require_known(
    devices: tuple[str, ...], units: list[Unit], always: frozenset[str] = frozenset({ALL, NONE})
) -> None:
    """Refuse what no unit is called by any strategy.

    Raises:
        UsageError: nothing was asked for, or something that is not there.
    """
    if not devices:
        raise UsageError("no device was asked for", hint="ask for all, or for none")
    known = always.union(name for by_strategy, _ in units for name in by_strategy.values())
    for device in devices:
        if device not in known:
            raise UsageError(
                f"there is no device {device} on this host", hint="see them with: cdi-gen list"
            )


def _no_device(inventory: Inventory) -> CdiGenError:
    if inventory.skipped:
        first = inventory.skipped[0]
        return CdiGenError(f"no GPU of this host can be used: {first.device}: {first.reason}")
    if inventory.gpus:
        return NoDriverError(
            "every GPU of this host has MIG enabled, and none has a MIG device",
            hint="create instances with: nvidia-smi mig -cgi PROFILE -C",
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
