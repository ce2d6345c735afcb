# SPDX-License-Identifier: Apache-2.0
"""The specs of NVIDIA devices on the host, for the checks of specs, engines and hooks."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.cdi.model import Hook
from cdi_gen.doctor.check import NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.engines.spec_directories import normalized
from cdi_gen.paths import base_name, parent
from cdi_gen.refresh import effective_specs
from cdi_gen.refresh.effective_specs import EffectiveSpecs
from cdi_gen.store import Registry, SpecFile

OWN_DIRECTORY = "/run/cdi"
"""The directory of the specs of ``cdi-gen refresh``."""
MODES = ("cap", "gds", "mofed", "gdrcopy", "nvswitch", "imex")
OWN_NAMES = frozenset({"nvidia.json", *(f"nvidia-{mode}.json" for mode in MODES)})
"""The names of these specs."""


def directories(host: Host) -> tuple[str, ...]:
    """Return the directories that are examined, and those that an installed engine reads.

    No directory is returned twice: /var/run is a link to /run.
    """
    of_engines = [
        directory
        for status in host.engines
        if status.cdi != "no"
        for directory in status.spec_directories
    ]
    by_path = {normalized(path): path for path in (*host.scope.spec_directories, *of_engines)}
    return tuple(by_path.values())


def registry(host: Host) -> Registry:
    """Return the content of the directories that are examined, as engines see it."""
    return host.registry(host.scope.spec_directories)


def effective(host: Host) -> EffectiveSpecs:
    """Return the specs of NVIDIA devices that engines take from these directories."""
    return effective_specs.of(registry(host))


def require_specs(host: Host) -> EffectiveSpecs:
    """Return the same.

    Raises:
        NotApplicable: there is no such spec.
    """
    specs = effective(host)
    if not specs.specs:
        raise NotApplicable("no spec of NVIDIA devices is installed")
    return specs


def require_files(host: Host) -> EffectiveSpecs:
    """Return the same; files that conflict with each other are enough.

    Raises:
        NotApplicable: there is no such file.
    """
    specs = effective(host)
    if not specs.specs and not specs.conflicts:
        raise NotApplicable("no spec of NVIDIA devices is installed")
    return specs


def files_of_nvidia(host: Host) -> tuple[SpecFile, ...]:
    """Return the files with specs of NVIDIA devices in all directories, also of engines alone."""
    return tuple(
        file
        for file in host.registry(directories(host)).files
        if file.spec is not None and effective_specs.is_of_nvidia(file.spec.kind)
    )


def is_own(path: str) -> bool:
    """Whether ``cdi-gen refresh`` writes a file of this name."""
    return normalized(parent(path)) == OWN_DIRECTORY and base_name(path) in OWN_NAMES


def rewrite(path: str, *options: str) -> str:
    """Return the command that writes a spec file again."""
    if is_own(path) and not options:
        return "sudo cdi-gen refresh --force"
    return " ".join(("sudo cdi-gen generate", *options, "-o", quote(path)))


def hooks(specs: EffectiveSpecs) -> Iterator[tuple[str, Hook]]:
    """Yield the file and the hook for each different hook of the specs."""
    seen: set[tuple[str, Hook]] = set()
    for spec in specs.specs:
        for edits in spec.edits:
            for hook in edits.hooks:
                if (spec.path, hook) not in seen:
                    seen.add((spec.path, hook))
                    yield spec.path, hook


def is_default(directory: str) -> bool:
    """Whether engines read a directory by default."""
    return normalized(directory) in map(normalized, SPEC_DIRECTORIES)
