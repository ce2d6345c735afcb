# SPDX-License-Identifier: Apache-2.0
"""Reads spec directories as engines do, and resolves device names to spec files.

The result also has the files that a later directory overrides, the files that conflict with each
other, and the files that engines ignore.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cdi_base.cdi import SPEC_DIRECTORIES, spec_directories, specification
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.problem import Problem, SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """A file of a spec directory, or a directory that cannot be read."""

    path: str
    spec: Spec | None
    """None if every engine ignores the file."""
    problems: tuple[Problem, ...] = ()
    """All problems of the file, including those that engines tolerate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The spec file that a qualified device name is resolved to."""

    name: str
    file: SpecFile | None
    """The file that defines the device; None if files conflict, and the name is unresolvable."""
    shadowed: tuple[SpecFile, ...] = ()
    """Files of earlier directories that define the device too, without effect."""
    conflicting: tuple[SpecFile, ...] = ()
    """Files of one directory that define the same device. Engines then cannot resolve the name,
    even if a later directory defines the device as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The content of the spec directories, as engines see it."""

    directories: tuple[str, ...]
    files: tuple[SpecFile, ...]
    devices: tuple[Resolution, ...]
    """Ordered by name."""

    def find(self, name: str) -> Resolution | None:
        """Return the resolution of ``vendor/class=device``; None if no file defines it."""
        return next((device for device in self.devices if device.name == name), None)


def read(directories: Sequence[str] = SPEC_DIRECTORIES) -> Registry:
    """Read spec directories in rising priority, as an engine does.

    A file or a directory that cannot be read is a `SpecFile` with a problem, and not an error.
    """
    return assemble(directories, [tuple(_spec_files(directory)) for directory in directories])


def assemble(
    directories: Sequence[str], files_by_directory: Sequence[tuple[SpecFile, ...]]
) -> Registry:
    """Return the registry of files that were read: those of each directory, in rising priority."""
    definitions: dict[str, list[list[SpecFile]]] = {}
    for priority, files in enumerate(files_by_directory):
        for file in files:
            for name in _device_names(file.spec):
                by_directory = definitions.setdefault(name, [[] for _ in files_by_directory])
                by_directory[priority].append(file)
    return Registry(
        directories=tuple(directories),
        files=tuple(file for files in files_by_directory for file in files),
        devices=tuple(_resolution(name, definitions[name]) for name in sorted(definitions)),
    )


def _device_names(spec: Spec | None) -> tuple[str, ...]:
    return tuple(f"{spec.kind}={device.name}" for device in spec.devices) if spec else ()


def _resolution(name: str, by_directory: list[list[SpecFile]]) -> Resolution:
    """Resolve a name.

    Args:
        name: the qualified device name.
        by_directory: the files that define the device, for each directory in rising priority.
    """
    conflicting = tuple(file for files in by_directory if len(files) > 1 for file in files)
    definitions = [file for files in by_directory for file in files]
    if conflicting:
        others = tuple(file for file in definitions if file not in conflicting)
        return Resolution(name=name, file=None, shadowed=others, conflicting=conflicting)
    return Resolution(name=name, file=definitions[-1], shadowed=tuple(definitions[:-1]))


def _spec_files(directory: str) -> Iterator[SpecFile]:
    try:
        for file in spec_directories.files(directory):
            yield interpret(file)
    except FileNotFoundError:
        return
    except OSError as error:
        yield unreadable_directory(directory, error.strerror or str(error))


def unreadable_directory(directory: str, reason: str) -> SpecFile:
    """Return the record of a directory that cannot be read."""
    consequence = "engines read neither this directory nor later ones"
    problem = Problem(
        "", f"cannot be read: {reason}", code="CDG-F106", consequence=consequence, severity="error"
    )
    return SpecFile(path=directory, spec=None, problems=(problem,))


def interpret(file: spec_directories.SpecFile) -> SpecFile:
    """Return the spec and the problems of a file that was read."""
    from cdi_gen.cdi import validation  # noqa: PLC0415  not needed for writing

    if file.content is None:
        problem = Problem(path="", message=file.problem or "", code="CDG-F107")
        if file.is_closed:
            consequence = "engines that do not run as root ignore the file"
            problem = problem._replace(consequence=consequence, severity="error")
        return SpecFile(path=file.path, spec=None, problems=(problem,))
    try:
        document, text_faults = wire.read(file.content)
    except SpecError as error:
        return SpecFile(path=file.path, spec=None, problems=error.problems)
    problems = validation.check(document, text_faults, with_schema=False)
    if file.distrust:
        unsafe = Problem(
            "", file.distrust, code="CDG-F108", consequence=_SHIM_IGNORES_FILE, severity="error"
        )
        problems = (unsafe, *problems)
    read_by = specification.EVERY.difference(*(problem.refused_by for problem in problems))
    spec = wire.from_document(document) if read_by else None
    return SpecFile(path=file.path, spec=spec, problems=problems)


_SHIM_IGNORES_FILE = (
    "a user who can change the file decides what root runs: engines read the file nevertheless, "
    "the runtime shim and the prestart hook ignore it"
)
