# SPDX-License-Identifier: Apache-2.0
"""Finds the installed spec files that define given devices, as engines do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.cdi.model import Spec
from cdi_gen.cli import console
from cdi_gen.errors import CdiGenError

if TYPE_CHECKING:
    from cdi_gen.store import Registry, SpecFile


def find_spec(name: str, directories: tuple[str, ...]) -> tuple[Spec, str]:
    """Return the spec that defines a qualified device name, and its file.

    Raises:
        CdiGenError: as `find_specs`.
    """
    ((spec, path),) = find_specs((name,), directories)
    return spec, path


def find_specs(names: Iterable[str], directories: tuple[str, ...]) -> tuple[tuple[Spec, str], ...]:
    """Return the specs that define qualified device names, with their files, in rising priority.

    Args:
        names: qualified device names, as ``nvidia.com/gpu=0``.
        directories: the spec directories; empty: those of engines.

    Raises:
        CdiGenError: no file defines a name, or the files that define it conflict.
    """
    from cdi_gen import store  # noqa: PLC0415

    registry = store.read(directories or SPEC_DIRECTORIES)
    file_ids = {id(_defining_file(name, registry)) for name in names}
    return tuple(
        (file.spec, file.path) for file in registry.files if file.spec and id(file) in file_ids
    )


def _defining_file(name: str, registry: Registry) -> SpecFile:
    resolution = registry.find(name)
    if resolution is None:
        raise _undefined(name, registry)
    if resolution.file is None:
        files = ", ".join(file.path for file in resolution.conflicting)
        raise CdiGenError(
            f"engines cannot resolve {name}: {files} all define the device",
            hint="remove all but one of these files",
            code="CDG-F102",
            subject=name,
        )
    for file in resolution.shadowed:
        console.note(
            f"{resolution.file.path} has priority over {file.path}, which also defines {name}",
            code="CDG-F104",
        )
    return resolution.file


def _undefined(name: str, registry: Registry) -> CdiGenError:
    """Warn of each file that engines ignore, and return the error for an undefined device."""
    for file in registry.files:
        if file.spec is None:
            console.warning(
                f"engines ignore {file.path}",
                hint=f"see the reasons with: cdi-gen validate {file.path}",
                code="CDG-F103",
            )
    hint = "write one with: cdi-gen generate -o /etc/cdi/nvidia.json"
    if not name.startswith("nvidia.com/gpu="):
        options = " ".join(f"--spec-dir {directory}" for directory in registry.directories)
        hint = f"see the defined devices with: cdi-gen list {options}"
    return CdiGenError(
        f"no spec file in {', '.join(registry.directories)} defines {name}",
        hint=hint,
        code="CDG-F101",
        subject=name,
    )
