# SPDX-License-Identifier: Apache-2.0
"""Spec directories: what engines find in them, and how a spec gets into one safely.

Reading answers what an engine would resolve, and why not more: which file defines a device, which
files lose, which cancel each other out, which are not read at all. Writing replaces a file in one
step, whatever happens meanwhile, and refuses where somebody other than root could change it later:
who can write a spec can have root run a hook.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from cdi_base import trust
from cdi_base.cdi import spec_directories, specification
from cdi_base.files import make_directory, replace_file
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.problem import Problem, SpecError
from cdi_gen.errors import CdiGenError, InvalidSpecError, UnsafeError

SPEC_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
"""Where engines look by default; what the later directory defines wins."""

READ_AS_ROOT = frozenset({"/etc/cdi", "/var/run/cdi", "/run/cdi"})
"""Directories whose hooks a root engine runs: nobody but root may write to them."""


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


def write(
    text: str, path: str, *, spec: Spec, read_as_root: Collection[str] = READ_AS_ROOT
) -> None:
    """Make ``path`` a spec file with ``text``, as `write_text` does.

    Args:
        text: the text of ``spec``; it is read back and compared before it is put in place.
        path: the file.
        spec: what ``text`` has to mean.
        read_as_root: see `write_text`.

    Raises:
        InvalidSpecError: ``text`` does not mean ``spec``.
        UnsafeError: see `write_text`.
        CdiGenError: the file system refuses.
    """
    _check_meaning(text, spec)
    write_text(text, path, read_as_root=read_as_root)


def write_text(text: str, path: str, *, read_as_root: Collection[str] = READ_AS_ROOT) -> None:
    """Make ``path`` a file of mode 0644 with ``text``, in one step; make its directory if needed.

    A symbolic link at ``path`` is replaced, not followed. Whatever fails, the file that was there
    stays as it was, and nothing else is left behind.

    Args:
        text: what the file will hold, in UTF-8.
        path: the file.
        read_as_root: directories that only root (or, for an ordinary user, that user) may be able
            to change, all the way from ``/``. Other directories are only refused to root, and only
            if others can write to them and they have no sticky bit.

    Raises:
        UnsafeError: somebody else could change the file, or put another in its place.
        CdiGenError: the file system refuses.
    """
    directory, name = os.path.split(path)
    if not name:
        raise CdiGenError(
            f"cannot write {path}: it ends in /, so it names a directory",
            code="CDG-F004",
            subject=path,
        )
    directory = directory or "."
    try:
        check_directory(directory, read_as_root)
        make_directory(directory)
        check_directory(directory, read_as_root)
        replace_file(path, text.encode())
    except OSError as error:
        raise CdiGenError(
            f"cannot write {path}: {error.strerror}",
            hint=_HINTS.get(error.errno or 0),
            code="CDG-F004",
            subject=path,
        ) from error


_HINTS = {
    errno.EACCES: "run it as root, or name another file with --output",
    errno.EPERM: "run it as root, or name another file with --output",
    errno.EROFS: "the file system is read-only: name another file with --output",
    errno.ENOSPC: "the file system is full; what was there before is unchanged",
    errno.EDQUOT: "your quota is used up; what was there before is unchanged",
    errno.EISDIR: "there is a directory of this name",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ENOENT: "this file system takes no files of ours, or the directory was removed meanwhile",
    errno.EFBIG: "it is larger than this process may write (ulimit -f)",
    errno.EMFILE: "this process may not open more files (ulimit -n)",
    errno.ENAMETOOLONG: "a part of the path is too long for this file system",
}


def _check_meaning(text: str, spec: Spec) -> None:
    """A last look at what root is about to trust, independent of who made the text."""
    try:
        meant = wire.load(text) == spec
    except SpecError as error:
        raise InvalidSpecError(
            f"not written, because it cannot be read back: {error}", code="CDG-F006"
        ) from error
    if not meant:
        raise InvalidSpecError(
            "not written, because it would be read back as another spec",
            hint="this is a fault of cdi-gen: please report it with the output of "
            "`cdi-gen inventory`",
            code="CDG-F006",
        )


def check_directory(directory: str, read_as_root: Collection[str] = READ_AS_ROOT) -> None:
    """Refuse a directory in which somebody else could replace what is written; see `write`.

    What does not exist yet is not judged.

    Raises:
        UnsafeError: it is one, and why.
    """
    absolute = os.path.abspath(directory)
    real = os.path.realpath(directory)
    if {absolute, real} & {place for known in read_as_root for place in _spellings(known)}:
        fault = trust.fault(absolute, owners={0, os.geteuid()}, may_be_missing=True)
    elif os.geteuid() == 0 and os.path.isdir(real):
        # Whoever owns the directory; the sticky bit keeps others from replacing the file.
        status = os.stat(real)
        sticky = status.st_mode & stat.S_ISVTX
        reason = None if sticky else trust.file_fault(status, owners={status.st_uid})
        fault = f"{directory} {reason}" if reason else None
    else:
        fault = None
    if fault:
        raise UnsafeError(
            f"not writing to {directory}: {fault}",
            hint="a spec says what root runs when a container starts, so only root may be able to "
            "change it: correct owner and mode (root:root 0755), or name another file",
            code="CDG-F005",
            subject=directory,
        )


def _spellings(directory: str) -> tuple[str, str]:
    return directory, os.path.realpath(directory)
