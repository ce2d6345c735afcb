# SPDX-License-Identifier: Apache-2.0
"""The spec files that engines take devices from, for commands that a person gives their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.cdi.model import Spec
from cdi_gen.cli import console
from cdi_gen.errors import CdiGenError

if TYPE_CHECKING:
    from cdi_gen.store import Registry, SpecFile


def installed(name: str, directories: tuple[str, ...]) -> tuple[Spec, str]:
    """The spec that defines a qualified device name, and its file; see `all_installed`."""
    ((spec, path),) = all_installed((name,), directories)
    return spec, path


def all_installed(
    names: Iterable[str], directories: tuple[str, ...]
) -> tuple[tuple[Spec, str], ...]:
    """The specs that define qualified device names, with their files; the later wins.

    Args:
        names: ``nvidia.com/gpu=0``.
        directories: where to look; none: where engines do.

    Raises:
        CdiGenError: no file defines a name, or engines would not know which to take.
    """
    from cdi_gen import store  # noqa: PLC0415

    registry = store.read(directories or SPEC_DIRECTORIES)
    taken = {id(_defining(name, registry)) for name in names}
    return tuple(
        (file.spec, file.path) for file in registry.files if file.spec and id(file) in taken
    )


def _defining(name: str, registry: Registry) -> SpecFile:
    found = registry.find(name)
    looked_in = ", ".join(registry.directories)
    if found is None:
        for file in registry.files:
            if file.spec is None:
                console.warning(
                    f"engines ignore {file.path}; why: cdi-gen validate {file.path}",
                    code="CDG-F103",
                )
        hint = "write one with: cdi-gen generate -o /etc/cdi/nvidia.json"
        if not name.startswith("nvidia.com/gpu="):
            options = " ".join(f"--spec-dir {directory}" for directory in registry.directories)
            hint = f"see what there is: cdi-gen list {options}"
        raise CdiGenError(
            f"no spec file in {looked_in} defines {name}", hint=hint, code="CDG-F101", subject=name
        )
    if found.file is None:
        files = ", ".join(file.path for file in found.conflicting)
        raise CdiGenError(
            f"engines cannot resolve {name}: {files} all define it",
            hint="remove all but one of these files",
            code="CDG-F102",
            subject=name,
        )
    for file in found.shadowed:
        console.note(f"{found.file.path} wins over {file.path}", code="CDG-F104")
    return found.file
