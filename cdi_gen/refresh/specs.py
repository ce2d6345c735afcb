# SPDX-License-Identifier: Apache-2.0
"""Generates the specs that the settings ask for. It does no I/O."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.errors import NoDriverError
from cdi_gen.generate import Options, modes
from cdi_gen.inventory import Inventory
from cdi_gen.paths import join
from cdi_gen.refresh.settings import FILES, Settings

FILE = "nvidia.json"
"""The file of the GPUs; that of another mode has the mode's name in it."""
GPU_MODES = ("auto", "nvml")


class NewSpec(NamedTuple):
    """A spec of this host, and its file."""

    path: str
    spec: Spec
    text: str
    summary: str


class NewSpecs(NamedTuple):
    """The specs of all modes."""

    specs: tuple[NewSpec, ...]
    no_gpu: NoDriverError | None
    """Why there is no spec with GPUs, if the settings ask for one; then there is none with files of
    the driver either."""
    has_driver_files: bool
    """Whether the settings ask for GPUs or files of the driver."""


def generate_all(inventory: Inventory, settings: Settings) -> NewSpecs:
    """Return the specs; a transport without devices has none.

    Raises:
        CdiGenError: as `Mode.spec`, except that the host has no GPU.
    """
    specs: list[NewSpec] = []
    no_gpu: NoDriverError | None = None
    has_driver_files = False
    for name in dict.fromkeys(settings.modes):
        mode = modes.find(name)
        has_driver_files = has_driver_files or not mode.transports
        options = options_of(name, settings)
        try:
            spec = mode.spec(inventory, options)
        except NoDriverError as error:
            if not mode.transports:
                no_gpu = error
            continue
        summary = mode.summary(spec, inventory, options)
        specs.append(NewSpec(path_of(name, settings), spec, wire.dump(spec), summary))
    if no_gpu:
        specs = [new for new in specs if not _has_driver_files(new, settings)]
    return NewSpecs(tuple(specs), no_gpu, has_driver_files)


def _has_driver_files(new: NewSpec, settings: Settings) -> bool:
    return any(
        new.path == path_of(name, settings)
        for name in settings.modes
        if not modes.find(name).transports
    )


def options_of(mode: str, settings: Settings) -> Options:
    """Return the options of ``generate`` for a mode."""
    capabilities = settings.capabilities if mode.lower() in GPU_MODES else ("all",)
    # The tree is mounted as a whole, and not for each capability.
    form = settings.form if mode.lower() in GPU_MODES else FILES
    return Options(
        form=form,
        class_=modes.find(mode).class_,
        capabilities=() if capabilities == ("none",) else capabilities,
        hooks=settings.hooks == "auto",
    )


def path_of(mode: str, settings: Settings) -> str:
    """Return the path of a mode's spec file."""
    mode = mode.lower()
    name = FILE if mode in GPU_MODES else FILE.replace(".", f"-{mode}.")
    return join(settings.output_directory, name)
