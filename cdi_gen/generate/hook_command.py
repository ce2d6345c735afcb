# SPDX-License-Identifier: Apache-2.0
"""Builds the command lines of the hooks of a spec.

cdi-gen's hook program runs all steps in one process. A program with a name of NVIDIA's gets
nvidia-ctk's command lines, a process for each step.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base import nvidia
from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import Hook
from cdi_gen.errors import UsageError
from cdi_gen.generate import driver_files, driver_tree, requirements, tree_edits
from cdi_gen.generate.device_nodes import by_path_links
from cdi_gen.generate.options import CHECK_REQUIREMENTS, TREE, Options
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import base_name, parent

STAGE = "createContainer"
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
"""Environment of the hook. Never empty: runc before 1.3 passes the image's environment with
LD_PRELOAD to a hook without an environment (CVE-2025-23266)."""
TIMEOUT_SECONDS = 30
NVIDIA_PROGRAMS = {nvidia.HOOK: (), nvidia.CTK: ("hook",)}
"""The words between the program and the step, by the names of NVIDIA's hook programs."""

STEPS_WITHOUT_OPTIONS = ("disable-device-node-modification", "update-application-profile")
"""Steps without options of their own."""
STEPS_WITHOUT_VALUE = (CHECK_REQUIREMENTS, *STEPS_WITHOUT_OPTIONS)
"""Steps that an option of cdi-gen's hook with the name of the step requests."""

LEAVE_READ_ONLY = "--leave-read-only-root"

DIRECTORY_MODE = "755"


def hooks(path: str, options: Options, inventory: Inventory) -> tuple[Hook, ...]:
    """Return the hooks of a spec for the program at ``path``; empty if all steps are disabled.

    Raises:
        UsageError: the program at ``path`` does not have an enabled step or option.
    """
    name = base_name(path)
    steps = [(step, words) for step, words in _steps(inventory, options) if options.runs(step)]
    if name in NVIDIA_PROGRAMS and options.runs(CHECK_REQUIREMENTS):
        raise UsageError(
            f"{path} has no step {CHECK_REQUIREMENTS}",
            hint="install cdi-gen's hook, which has it: sudo cdi-gen hook install",
            code="CDG-G007",
        )
    if name in NVIDIA_PROGRAMS and options.leave_read_only_roots:
        raise UsageError(
            f"{path} has no option {LEAVE_READ_ONLY}",
            hint="install cdi-gen's hook, which has it: sudo cdi-gen hook install",
            code="CDG-G007",
        )
    if name in NVIDIA_PROGRAMS and options.form == TREE:
        raise UsageError(
            f"{path} does not know the driver tree",
            hint="install cdi-gen's hook: sudo cdi-gen hook install; or use --form files",
            code="CDG-U012",
        )
    if name in NVIDIA_PROGRAMS:
        return tuple(
            _hook(path, (name, *NVIDIA_PROGRAMS[name], step, *words)) for step, words in steps
        )
    arguments: list[str] = []
    for step, words in steps:
        arguments += [f"--{step}"] if step in STEPS_WITHOUT_VALUE else []
        # check-requirements and enable-cuda-compat both have the option of the driver's version.
        arguments += [
            word for word in words if step != "enable-cuda-compat" or word not in arguments
        ]
        if step == "enable-cuda-compat":
            # nvidia-ctk's hook rejects these options.
            arguments += [
                f"--host-gpu-brand={brand}" for brand in requirements.brands(inventory.gpus)
            ]
    if arguments and options.leave_read_only_roots:
        arguments.append(LEAVE_READ_ONLY)
    return (_hook(path, (name, "create-container", *arguments)),) if arguments else ()


def _steps(inventory: Inventory, options: Options) -> Iterator[tuple[str, list[str]]]:
    """Yield every step with its options, in the order in which the steps run."""
    tree = options.form == TREE
    versions = [f"--host-driver-file={driver_tree.DESCRIPTION}"] if tree else None
    yield CHECK_REQUIREMENTS, requirements.hook_options(inventory, versions)
    links = (tree_edits if tree else driver_files).links(inventory, catalogue())
    if makes_by_path_links(inventory.hook, options):
        links = [*links, *by_path_links(inventory.gpus)]
    if links:
        yield "create-symlinks", _repeated("--link", [f"{text}::{link}" for text, link in links])
    version = inventory.require_driver().version
    yield "enable-cuda-compat", versions or [f"--host-driver-version={version}"]
    folders = (tree_edits if tree else driver_files).folders(inventory)
    if folders:
        ldconfig = ["--ldconfig-path", options.ldconfig_path] if options.ldconfig_path else []
        yield "update-ldcache", _repeated("--folder", folders) + ldconfig
    for step in STEPS_WITHOUT_OPTIONS:
        yield step, []
    directories = _device_directories(inventory)
    if directories:
        yield "chmod", ["--mode", DIRECTORY_MODE, *_repeated("--path", directories)]


def makes_by_path_links(program: HookProgram | None, options: Options) -> bool:
    """Whether the spec's hook creates the by-path links of the container's DRM nodes.

    NVIDIA's programs would create the links of every GPU, also of GPUs that the container does not
    have.
    """
    return (
        program is not None
        and options.hooks
        and base_name(program.path) not in NVIDIA_PROGRAMS
        and options.runs("create-symlinks")
    )


def _repeated(option: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _device_directories(inventory: Inventory) -> list[str]:
    """Return the directories below /dev that an engine creates for the nodes of GPUs."""
    nodes = [node for gpu in inventory.gpus for node in gpu.drm_nodes]
    nodes += [device.gpu_instance_cap for device in inventory.mig_devices]
    return sorted({parent(node.path) for node in nodes})


def _hook(path: str, args: tuple[str, ...]) -> Hook:
    return Hook(hook_name=STAGE, path=path, args=args, env=ENVIRONMENT, timeout=TIMEOUT_SECONDS)
