# SPDX-License-Identifier: Apache-2.0
"""The hook's command line: what the spec tells the program that engines run.

cdi-gen's own program does all steps in one process. A program named like nvidia-ctk's is given
nvidia-ctk's command lines, one process a step.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base import nvidia
from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import Hook
from cdi_gen.errors import UsageError
from cdi_gen.generate import driver_files, requirements
from cdi_gen.generate.device_nodes import by_path_links
from cdi_gen.generate.options import CHECK_REQUIREMENTS, Options
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import base_name, parent

STAGE = "createContainer"
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
"""Never empty: runc before 1.3 hands the image's environment, LD_PRELOAD included, to a hook that
has none (CVE-2025-23266)."""
TIMEOUT_SECONDS = 30
PEERS = {nvidia.HOOK: (), nvidia.CTK: ("hook",)}

WITHOUT_OPTIONS = ("disable-device-node-modification", "update-application-profile")
"""Steps that are told nothing: in the one process of all steps their names are options."""
SWITCHES = (CHECK_REQUIREMENTS, *WITHOUT_OPTIONS)
"""All whose names are options there."""

LEAVE_READ_ONLY = "--leave-read-only-root"

MODE_OF_DIRECTORIES = "755"


def hooks(path: str, options: Options, inventory: Inventory) -> tuple[Hook, ...]:
    """The hooks of a spec for the program at ``path``; none where all steps are disabled.

    Raises:
        UsageError: a step is enabled that this program does not have.
    """
    name = base_name(path)
    steps = [(step, words) for step, words in _steps(inventory, options) if options.runs(step)]
    if name in PEERS and options.runs(CHECK_REQUIREMENTS):
        raise UsageError(
            f"{path} has no step {CHECK_REQUIREMENTS}",
            hint="cdi-gen's own has it: sudo cdi-gen hook install",
            code="CDG-G007",
        )
    if name in PEERS and options.leave_read_only_roots:
        raise UsageError(
            f"{path} has no option {LEAVE_READ_ONLY}",
            hint="cdi-gen's own has it: sudo cdi-gen hook install",
            code="CDG-G007",
        )
    if name in PEERS:
        return tuple(_hook(path, (name, *PEERS[name], step, *words)) for step, words in steps)
    together: list[str] = []
    for step, words in steps:
        together += [f"--{step}"] if step in SWITCHES else []
        # Two of them are told the driver's version.
        together += [w for w in words if step != "enable-cuda-compat" or w not in together]
        if step == "enable-cuda-compat":
            # nvidia-ctk's hook would refuse these words.
            together += [
                f"--host-gpu-brand={brand}" for brand in requirements.brands(inventory.gpus)
            ]
    if together and options.leave_read_only_roots:
        together.append(LEAVE_READ_ONLY)
    return (_hook(path, (name, "create-container", *together)),) if together else ()


def _steps(inventory: Inventory, options: Options) -> Iterator[tuple[str, list[str]]]:
    """Every step and its options, in the order in which they run."""
    yield CHECK_REQUIREMENTS, requirements.words(inventory)
    links = driver_files.links(inventory, catalogue())
    if makes_by_path_links(inventory.hook, options):
        links = [*links, *by_path_links(inventory.gpus)]
    if links:
        yield "create-symlinks", _each("--link", [f"{text}::{link}" for text, link in links])
    version = inventory.require_driver().version
    yield "enable-cuda-compat", [f"--host-driver-version={version}"]
    folders = driver_files.folders(inventory)
    if folders:
        ldconfig = ["--ldconfig-path", options.ldconfig_path] if options.ldconfig_path else []
        yield "update-ldcache", _each("--folder", folders) + ldconfig
    for step in WITHOUT_OPTIONS:
        yield step, []
    directories = _device_directories(inventory)
    if directories:
        yield "chmod", ["--mode", MODE_OF_DIRECTORIES, *_each("--path", directories)]


def makes_by_path_links(program: HookProgram | None, options: Options) -> bool:
    """Whether the spec's hook makes the DRM nodes' links, of those nodes that a container has.

    A program like nvidia-ctk's would make them for every GPU, and all but a few lead nowhere.
    """
    return (
        program is not None
        and options.hooks
        and base_name(program.path) not in PEERS
        and options.runs("create-symlinks")
    )


def _each(option: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _device_directories(inventory: Inventory) -> list[str]:
    """The directories below /dev that an engine makes for the nodes of GPUs."""
    nodes = [node for gpu in inventory.gpus for node in gpu.drm_nodes]
    nodes += [each.gpu_instance_cap for each in inventory.mig_devices]
    return sorted({parent(node.path) for node in nodes})


def _hook(path: str, args: tuple[str, ...]) -> Hook:
    return Hook(hook_name=STAGE, path=path, args=args, env=ENVIRONMENT, timeout=TIMEOUT_SECONDS)
