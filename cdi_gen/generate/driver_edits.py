# SPDX-License-Identifier: Apache-2.0
"""Builds the driver's part of a spec: mounts, environment variables and the hook."""

from __future__ import annotations

from cdi_gen.catalogue import Catalogue
from cdi_gen.cdi.model import Hook, Mount, Spec
from cdi_gen.errors import CdiGenError, UnsafeError, UsageError
from cdi_gen.generate import driver_files, driver_tree, hook_command, image_layouts, tree_edits
from cdi_gen.generate.options import TREE, Options
from cdi_gen.generate.selection import Selection, stem
from cdi_gen.inventory import DGPU, PLATFORMS, Inventory, validation
from cdi_gen.paths import parent


def require_driver(inventory: Inventory, options: Options) -> None:
    """Check the inventory and its driver before a spec with files of the driver is generated.

    Raises:
        UsageError: a library directory of the options is not an absolute path, or the spec cannot
            have the form of the options.
        CdiGenError: the inventory is invalid, its platform is not supported, or the driver is split
            (the versions of libraries and kernel module differ).
    """
    validation.require(inventory)
    require_dgpu(inventory)
    _require_directories(options.library_directories)
    driver = inventory.require_driver()
    if driver.version != driver.library_version:
        raise CdiGenError(
            f"the driver is split: its libraries are {driver.library_version}, the loaded kernel "
            f"module is {driver.version}; no program in a container could use the GPU",
            hint="reboot, or unload and load the nvidia modules; an existing spec was not changed",
            code="CDG-G001",
        )


def require_dgpu(inventory: Inventory) -> None:
    """Reject the inventory of a platform that this version does not support.

    Raises:
        CdiGenError: the platform is not a discrete GPU with the driver for Linux.
    """
    name = inventory.platform
    if name != DGPU:
        raise CdiGenError(
            f"the inventory is of {PLATFORMS.get(name, name)} (platform {name}), "
            "which this version does not support",
            hint="generate the spec with NVIDIA's program: nvidia-ctk cdi generate",
            code="CDG-H002",
        )


def _require_directories(directories: tuple[str, ...] | None) -> None:
    if directories is None:
        return
    if not directories:
        raise UsageError(
            "the list of library directories in the container is empty", code="CDG-U006"
        )
    for directory in directories:
        if not validation.is_plain_path(directory):
            raise UsageError(
                f"the library directory {directory!r} is not an absolute path without empty parts, "
                "'.' and '..'",
                code="CDG-U010",
            )


def hooks(inventory: Inventory, options: Options) -> tuple[Hook, ...] | None:
    """Return the hooks of the spec; None if the spec has no hook program.

    Raises:
        UnsafeError: a user other than root could change the hook program.
        UsageError: a step is enabled that the program does not have.
    """
    program = inventory.hook
    if not options.hooks or program is None:
        return None
    if program.unsafe:
        raise UnsafeError(
            f"the hook program {program.path} cannot be trusted: {program.unsafe}",
            hint="engines run the program as root. Install it with: sudo cdi-gen hook install; "
            "or write a spec without hooks: --hooks=none",
            code="CDG-G002",
        )
    return hook_command.hooks(program.path, options, inventory)


def mounts(
    inventory: Inventory,
    selection: Selection,
    catalogue: Catalogue,
    options: Options,
    *,
    hooked: bool,
) -> tuple[Mount, ...]:
    """Return the mounts of all selected files.

    A parent directory comes before its children, in the order in which engines apply the mounts.
    ``hooked`` says whether the spec has hooks.
    """
    if options.form == TREE:
        tree_edits.require(inventory, options, hooked=hooked)
        file_mounts = tree_edits.mounts(inventory, selection, catalogue, hooked=hooked)
    elif hooked:
        file_mounts = driver_files.mounts(inventory, selection)
        file_mounts += driver_files.file_mounts(selection, catalogue, inventory.architecture)
    else:
        file_mounts = driver_files.mounts_without_hook(
            inventory, selection, catalogue, options.library_directories
        )
        file_mounts += driver_files.file_mounts(selection, catalogue, inventory.architecture)
    by_container_path = {mount.container_path: mount for mount in reversed(file_mounts)}
    return tuple(
        sorted(
            by_container_path.values(),
            key=lambda mount: (mount.container_path.count("/"), mount.container_path),
        )
    )


def variables(inventory: Inventory, options: Options, *, hooked: bool) -> tuple[str, ...]:
    """Return the environment variables that tell programs the directory of libcuda.

    Triton reads ``TRITON_LIBCUDA_PATH``, or else runs ``ldconfig -p``, which lists the driver only
    if the hook has updated the loader's cache.
    """
    libcuda = next(
        (
            library
            for library in inventory.libraries
            if stem(library) == "libcuda" and library.bits == 64
        ),
        None,
    )
    if libcuda is None:
        return ()
    if options.form == TREE:
        directory = driver_tree.LIBRARY_DIRECTORY
    elif hooked:
        directory = parent(driver_files.path_in_container(inventory, libcuda.path))
    else:
        directory = (options.library_directories or image_layouts.LOADER_DIRECTORIES)[0]
    libcuda_directory = f"NVIDIA_CTK_LIBCUDA_DIR={directory}"
    if hooked and options.runs("update-ldcache"):
        return (libcuda_directory,)
    return (libcuda_directory, f"TRITON_LIBCUDA_PATH={directory}")


def summary(spec: Spec, inventory: Inventory) -> str:
    """Describe the driver version, the CDI version and the number of hooks on one line."""
    hook_count = len(spec.container_edits.hooks)
    hooks_text = {0: "no hook", 1: "one hook"}.get(hook_count, f"{hook_count} hooks")
    version = inventory.require_driver().version
    return f"driver {version}, CDI {spec.cdi_version}, {hooks_text}"
