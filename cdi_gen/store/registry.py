# SPDX-License-Identifier: Apache-2.0
"""Reads spec directories as engines do: which file defines a device, and why others do not.

It tells which files lose against a later directory, which cancel each other out, and which engines
do not read at all.
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
    """One file of a spec directory (or the directory, if that cannot be read)."""

    path: str
    spec: Spec | None
    """None if engines ignore the file."""
    problems: tuple[Problem, ...] = ()
    """All that is wrong with it, also what engines let pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a qualified device name comes to."""

    name: str
    file: SpecFile | None
    """The file that defines it; None if the name is unresolvable because of a conflict."""
    shadowed: tuple[SpecFile, ...] = ()
    """Files of earlier directories that define it too, to no effect."""
    conflicting: tuple[SpecFile, ...] = ()
    """Files of one directory that both define it. Engines then resolve it to neither, even if a
    later directory defines it as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Everything that engines find in the spec directories."""

    directories: tuple[str, ...]
    files: tuple[SpecFile, ...]
    devices: tuple[Resolution, ...]
    """By name."""

    def find(self, name: str) -> Resolution | None:
        """Return what ``vendor/class=device`` comes to; None if no file defines it."""
        return next((device for device in self.devices if device.name == name), None)


def read(directories: Sequence[str] = SPEC_DIRECTORIES) -> Registry:
    """Read spec directories as an engine does; faults of single files are data, not errors."""
    scanned = [tuple(_spec_files(directory)) for directory in directories]
    definitions: dict[str, list[list[SpecFile]]] = {}
    for priority, files in enumerate(scanned):
        for file in files:
            for name in _device_names(file.spec):
                definitions.setdefault(name, [[] for _ in scanned])[priority].append(file)
    return Registry(
        directories=tuple(directories),
        files=tuple(file for files in scanned for file in files),
        devices=tuple(_resolution(name, definitions[name]) for name in sorted(definitions)),
    )


def _device_names(spec: Spec | None) -> tuple[str, ...]:
    return tuple(f"{spec.kind}={device.name}" for device in spec.devices) if spec else ()


def _resolution(name: str, definers: list[list[SpecFile]]) -> Resolution:
    conflicting = tuple(file for files in definers if len(files) > 1 for file in files)
    defining = [file for files in definers for file in files]
    if conflicting:
        others = tuple(file for file in defining if file not in conflicting)
        return Resolution(name=name, file=None, shadowed=others, conflicting=conflicting)
    return Resolution(name=name, file=defining[-1], shadowed=tuple(defining[:-1]))


def _spec_files(directory: str) -> Iterator[SpecFile]:
    try:
        for file in spec_directories.files(directory):
            yield _read(file)
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        consequence = "engines read neither this directory nor later ones"
        problem = Problem("", message, code="CDG-F106", consequence=consequence, severity="error")
        yield SpecFile(path=directory, spec=None, problems=(problem,))


def _read(file: spec_directories.SpecFile) -> SpecFile:
    from cdi_gen.cdi import validation  # noqa: PLC0415  only readers need to judge

    if file.content is None:
        problem = Problem(path="", message=file.problem or "", code="CDG-F107")
        if file.is_closed:
            consequence = "engines without root's rights ignore it"
            problem = problem._replace(consequence=consequence, severity="error")
        return SpecFile(path=file.path, spec=None, problems=(problem,))
    try:
        document, of_text = wire.read(file.content)
    except SpecError as error:
        return SpecFile(path=file.path, spec=None, problems=error.problems)
    problems = validation.check(document, of_text, with_schema=False)
    if file.distrust:
        distrusted = Problem(
            "",
            file.distrust,
            code="CDG-F108",
            consequence=_NOT_BY_THE_SHIM,
            severity="error",
        )
        problems = (distrusted, *problems)
    read_by = specification.EVERY.difference(*(problem.refused_by for problem in problems))
    spec = wire.from_document(document) if read_by else None
    return SpecFile(path=file.path, spec=spec, problems=problems)


_NOT_BY_THE_SHIM = (
    "who can change it decides what root runs: engines read it all the same, the runtime shim and "
    "the prestart hook do not"
)
