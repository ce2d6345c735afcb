# SPDX-License-Identifier: Apache-2.0
"""Reads the specs of NVIDIA devices that engines use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from cdi_gen import store
from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.store import Registry

VENDOR = "nvidia.com"


class EffectiveSpec(NamedTuple):
    """A spec file, with the devices that engines take from it."""

    path: str
    spec: Spec
    devices: tuple[Device, ...]

    @property
    def used(self) -> Spec:
        """The spec with the devices that engines take from it."""
        return replace(self.spec, devices=self.devices)

    @property
    def edits(self) -> Iterator[ContainerEdits]:
        """The edits that a container may get from the file."""
        yield self.spec.container_edits
        for device in self.devices:
            yield device.container_edits

    @property
    def host_paths(self) -> Iterator[str]:
        """The paths of the host that the file names."""
        for edits in self.edits:
            yield from (node.host_path or node.path for node in edits.device_nodes)
            yield from (mount.host_path for mount in edits.mounts if mount.host_path)
            yield from (hook.path for hook in edits.hooks)


class Conflict(NamedTuple):
    """Devices that engines cannot resolve, because files of one directory define them."""

    paths: tuple[str, ...]
    names: tuple[str, ...]


class EffectiveSpecs(NamedTuple):
    """The spec directories as engines see them."""

    specs: tuple[EffectiveSpec, ...]
    conflicts: tuple[Conflict, ...]
    shadowed: tuple[tuple[str, str], ...]
    """(file, file of a later directory that defines all its devices)."""
    ignored: tuple[str, ...]
    """Files that every engine ignores; they may have been meant for NVIDIA devices."""


def read(directories: Sequence[str]) -> EffectiveSpecs:
    """Return the specs in these directories, in the order in which engines apply them."""
    return of(read_registry(directories))


def read_registry(directories: Sequence[str]) -> Registry:
    """Return the content of these directories, with the devices that engines cannot resolve."""
    return store.read(directories)


def of(registry: Registry) -> EffectiveSpecs:
    """Return the specs of directories that were read, in the order in which engines apply them."""
    effective: dict[str, set[str]] = {}
    conflicts: dict[tuple[str, ...], list[str]] = {}
    shadowing: dict[str, str] = {}
    for resolution in registry.devices:
        if not is_of_nvidia(resolution.name.partition("=")[0]):
            continue
        if resolution.file is None:
            paths = tuple(file.path for file in resolution.conflicting)
            conflicts.setdefault(paths, []).append(resolution.name)
            continue
        effective.setdefault(resolution.file.path, set()).add(resolution.name)
        for file in resolution.shadowed:
            shadowing[file.path] = resolution.file.path
    specs = [
        EffectiveSpec(
            file.path,
            file.spec,
            tuple(
                device
                for device in file.spec.devices
                if f"{file.spec.kind}={device.name}" in effective[file.path]
            ),
        )
        for file in registry.files
        if file.spec is not None and file.path in effective
    ]
    return EffectiveSpecs(
        tuple(specs),
        tuple(Conflict(paths, tuple(names)) for paths, names in conflicts.items()),
        tuple((path, later) for path, later in shadowing.items() if path not in effective),
        tuple(file.path for file in registry.files if file.spec is None),
    )


def is_of_nvidia(kind: str) -> bool:
    """Whether a kind is of NVIDIA devices: ``nvidia.com/gpu``, ``management.nvidia.com/gpu``."""
    vendor = kind.partition("/")[0]
    return vendor == VENDOR or vendor.endswith(f".{VENDOR}")
