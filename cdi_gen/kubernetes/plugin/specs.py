# SPDX-License-Identifier: Apache-2.0
"""Writes the CDI specs of the devices that the plugin advertises.

The specs are those of ``cdi-gen generate`` under the plugin's vendor, with the names that Allocate
answers. They are written before a device is advertised, so that no pod names a device that the
runtime does not know.
"""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen import store
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.generate import DEFAULTS, Options, generate
from cdi_gen.generate.modes import transports
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.resources.allocation import CDI_VENDOR
from cdi_gen.kubernetes.settings import Settings
from cdi_gen.paths import parent


class SpecFile(NamedTuple):
    """A spec and the path of its file."""

    path: str
    spec: Spec


def spec_files(inventory: Inventory, settings: Settings) -> tuple[SpecFile, ...]:
    """Return the specs of a node: its GPUs, and the transports that containers get.

    Raises:
        CdiGenError: the host has no driver or no usable GPU, see `generate`.
    """
    if not settings.cdi:
        return ()
    options = Options(
        vendor=CDI_VENDOR, names=("uuid", "index"), disabled_hooks=settings.disabled_hooks
    )
    specs = [generate(inventory, options)]
    modes = [*settings.transports, *(["imex"] if settings.imex.channel_ids else [])]
    for mode in modes:
        class_ = transports.transport(mode).class_
        spec = transports.spec(mode, inventory, DEFAULTS._replace(vendor=CDI_VENDOR, class_=class_))
        if spec is not None:
            specs.append(spec)
    return tuple(SpecFile(_path(spec, settings), spec) for spec in specs)


def _path(spec: Spec, settings: Settings) -> str:
    vendor, _, class_ = spec.kind.partition("/")
    return f"{settings.cdi_root}/{vendor}-{class_}.json"


def write_specs(files: tuple[SpecFile, ...]) -> None:
    """Write the specs atomically; engines read the old files or the new ones.

    Raises:
        CdiGenError: a file cannot be written, see `store.write`.
    """
    for file in files:
        # The engine reads any directory that is configured, and runs the hooks as root.
        read_as_root = {*store.READ_AS_ROOT, parent(file.path)}
        store.write(wire.dump(file.spec), file.path, spec=file.spec, read_as_root=read_as_root)
