# SPDX-License-Identifier: Apache-2.0
"""Replays how an engine resolves a device name: the directories, each file, and the result.

The rules are those of `scanSpecDirs` and `Cache.refresh` of the standard's library, by release.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from cdi_base.cdi.libraries import EVERY, LIBRARIES
from cdi_base.cdi.versions import compare
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.cdi.model import ContainerEdits, Device
from cdi_gen.cdi.problem import Problem
from cdi_gen.cdi.versions import minimum_version
from cdi_gen.store import Resolution, SpecFile, conflicts
from cdi_gen.store.registry import assemble
from cdi_gen.why import advice
from cdi_gen.why.readers import Reader
from cdi_gen.why.spec_files import TOO_LOW, Access, Directory, Host

DirectoryState = Literal["read", "absent", "unreadable", "link", "unreached", "unknown"]
FileState = Literal["used", "read", "shadowed", "conflicting", "ignored", "unreadable", "unknown"]

_FOLLOWS_LINKS_SINCE = "1.1.1"
"""Earlier releases of the library walk the directory, and a link to a directory is no directory."""


_PASSES_ABSENT_SINCE = "0.5.1"
"""Earlier releases of the library read no directory after one that does not exist."""

_CHECKS_MINIMUM_SINCE = "0.5.4"
"""Earlier releases of the library do not compare the claimed version with the fields, and refuse a
version with a ``v``."""


class File(NamedTuple):
    """A file of a spec directory, as one engine treats it."""

    file: SpecFile
    state: FileState
    device: Device | None
    """The device of the requested name, if the file defines it."""
    reason: Finding | None = None
    """Why the engine does not use the file."""

    @property
    def edits(self) -> ContainerEdits:
        """The edits of the spec and of the device, as engines combine them."""
        if self.file.spec is None or self.device is None:
            return ContainerEdits()
        return self.file.spec.container_edits | self.device.container_edits


class ReadDirectory(NamedTuple):
    """A spec directory, as one engine treats it."""

    path: str
    state: DirectoryState
    files: tuple[File, ...] = ()
    reason: Finding | None = None


class Lookup(NamedTuple):
    """How one engine resolves a device name."""

    name: str
    reader: Reader
    directories: tuple[ReadDirectory, ...]
    """In the order in which the engine reads them."""
    definition: File | None
    """The file that the name is resolved to."""
    findings: tuple[Finding, ...]
    """What keeps the engine from resolving the name, the most likely cause first; else notes."""
    is_complete: bool
    """False: only root can tell."""


def look_up(name: str, reader: Reader, host: Host, elsewhere: Iterable[str]) -> Lookup:
    """Resolve a qualified device name as an engine does.

    Args:
        name: ``vendor/class=device``.
        reader: the engine.
        host: the host's files.
        elsewhere: directories that other engines read, in which the name is searched for too.
    """
    if reader.cdi in {"no", "off"}:
        return Lookup(name, reader, (), None, (advice.without_cdi(reader),), is_complete=True)
    directories = [*_directories(name, reader, host)]
    resolution = _resolution(name, directories)
    directories = [_with_states(directory, resolution) for directory in directories]
    definition = None
    if resolution is None:
        findings = [*_causes(name, reader, host, directories, elsewhere)]
    elif resolution.file is None:
        findings = [_conflict(name, reader, host, resolution)]
    else:
        used = resolution.file
        definition = File(used, "used", device_in(used, name))
        findings = [_priority(name, used, shadowed) for shadowed in resolution.shadowed]
    unknown = {"unknown"} & {
        *(directory.state for directory in directories),
        *(file.state for directory in directories for file in directory.files),
    }
    return Lookup(
        name, reader, tuple(directories), definition, tuple(findings), is_complete=not unknown
    )


def follows_links(reader: Reader) -> bool:
    """Whether an engine reads a directory that is a symbolic link, and notices new links in it."""
    return LIBRARIES.index(reader.reads_as) >= LIBRARIES.index(_FOLLOWS_LINKS_SINCE)


def device_in(file: SpecFile, name: str) -> Device | None:
    """Return the device of a qualified name that a file defines."""
    if file.spec is None:
        return None
    kind, _, device_name = name.partition("=")
    if file.spec.kind != kind:
        return None
    return next((device for device in file.spec.devices if device.name == device_name), None)


def _directories(name: str, reader: Reader, host: Host) -> Iterator[ReadDirectory]:
    """The directories in the engine's order, with the fate of each file."""
    is_new = follows_links(reader)
    is_stopped = False
    for path in reader.directories:
        directory = host.directory(path)
        access = host.access(directory.path, reader.user, is_directory=True)
        if is_stopped:
            yield ReadDirectory(directory.path, "unreached")
        elif access.error == errno.ENOENT:
            reason = None
            if directory.is_link:
                target = host.target_of(directory.path)
                reason = advice.dangling_directory(name, directory.path, target)
            yield ReadDirectory(directory.path, "absent", reason=reason)
            is_stopped = not at_least(reader.library, _PASSES_ABSENT_SINCE, unknown=True)
        elif not access.is_known:
            yield ReadDirectory(directory.path, "unknown")
        elif access.error == errno.ENOTDIR and not is_new:
            # The walk starts at a file, and reads the file if it has the name of a spec.
            files = tuple(_file(name, reader, host, file) for file in directory.files)
            fault = None if files else _unreadable_directory(reader, directory, access)
            yield ReadDirectory(directory.path, "read", files, fault)
        elif access.error:
            reason = _unreadable_directory(reader, directory, access)
            yield ReadDirectory(directory.path, "unreadable", reason=reason)
            is_stopped = is_new
        elif directory.is_link and not is_new:
            reason = advice.linked_directory(reader, directory.path, host.target_of(directory.path))
            files = tuple(_file(name, reader, host, file) for file in directory.files)
            yield ReadDirectory(directory.path, "link", files, reason)
        else:
            files = tuple(_file(name, reader, host, file) for file in directory.files)
            yield ReadDirectory(directory.path, "read", files)


def _file(name: str, reader: Reader, host: Host, file: SpecFile) -> File:
    device = device_in(file, name)
    access = host.access(file.path, reader.user)
    if not access.is_known:
        return File(file, "unknown", device)
    if access.error:
        return File(file, "unreadable", device, advice.unreadable_file(reader, file.path, access))
    problem = refusal(file, reader)
    if problem:
        return File(file, "ignored", device, advice.ignored_file(reader, file, problem))
    return File(file, "read", device)


def refusal(file: SpecFile, reader: Reader) -> Problem | None:
    """Return the problem for which an engine ignores a file; None if it reads the file.

    Of an engine whose library is not known, only problems for every release count.
    """
    newest = reader.newest_cdi_version
    if file.spec and newest and compare(file.spec.cdi_version.removeprefix("v"), newest) > 0:
        return Problem(".cdiVersion", f"claims {file.spec.cdi_version}", code="CDG-S303")
    releases = frozenset({reader.reads_as}) if reader.library else EVERY
    return next(
        (
            problem
            for problem in file.problems
            if (problem.refused_by >= releases or _is_refused_by_old(problem, reader))
            and not (problem.code == TOO_LOW and _accepts_too_low(file, reader))
        ),
        None,
    )


def _is_refused_by_old(problem: Problem, reader: Reader) -> bool:
    """Whether only an early release of the library refuses a file for a problem."""
    return problem.code == "CDG-S304" and not at_least(
        reader.library, _CHECKS_MINIMUM_SINCE, unknown=True
    )


def _accepts_too_low(file: SpecFile, reader: Reader) -> bool:
    """Whether the engine reads a file that claims a lower version than its fields need."""
    if at_least(reader.library, _CHECKS_MINIMUM_SINCE, unknown=True) or file.spec is None:
        return False
    return compare(minimum_version(file.spec), reader.newest_cdi_version or "0.0.0") <= 0


def _resolution(name: str, directories: list[ReadDirectory]) -> Resolution | None:
    """Resolve the name among the files that the engine reads."""
    files_by_directory = [
        tuple(file.file for file in directory.files if file.state == "read")
        if directory.state == "read"
        else ()
        for directory in directories
    ]
    return assemble([directory.path for directory in directories], files_by_directory).find(name)


def _with_states(directory: ReadDirectory, resolution: Resolution | None) -> ReadDirectory:
    """The same directory; the files that define the device are used, shadowed or in conflict."""
    if resolution is None:
        return directory
    states: dict[int, FileState] = {id(file): "shadowed" for file in resolution.shadowed}
    states |= {id(file): "conflicting" for file in resolution.conflicting}
    states |= {id(resolution.file): "used"}
    files = tuple(
        file._replace(state=states.get(id(file.file), file.state)) for file in directory.files
    )
    return directory._replace(files=files)


def _conflict(name: str, reader: Reader, host: Host, resolution: Resolution) -> Finding:
    paths = [file.path for file in resolution.conflicting]
    choice = conflicts.choose(resolution.conflicting, host.modified)
    return Finding(
        "CDG-F102",
        "error",
        f"{' and '.join(paths)} define {name} in one directory: {reader.label} takes neither; "
        f"{choice.kept} {choice.reason}",
        subject=choice.obsolete[0],
        fix=f"sudo rm {' '.join(map(shlex.quote, choice.obsolete))}",
    )


def _priority(name: str, used: SpecFile, shadowed: SpecFile) -> Finding:
    message = f"{used.path} has priority over {shadowed.path}, which defines {name} too"
    return Finding("CDG-F104", "info", message, subject=shadowed.path)


def _causes(
    name: str,
    reader: Reader,
    host: Host,
    directories: list[ReadDirectory],
    elsewhere: Iterable[str],
) -> Iterator[Finding]:
    """Why no file defines the name: files that would define it first, then those that might."""
    files = [file for directory in directories for file in directory.files]
    reasons = [file.reason for file in files if file.device and file.reason]
    reasons += [
        directory.reason
        for directory in directories
        if directory.reason and any(file.device for file in directory.files)
    ]
    yield from reasons
    own = {directory.path for directory in directories if directory.state != "unreached"}
    seen: set[str] = set()
    for path in dict.fromkeys(host.directory(path).path for path in elsewhere):
        real = host.real_path(path)
        if path in own or real in {host.real_path(directory) for directory in own} | seen:
            continue
        seen.add(real)
        for spec_file in host.directory(path).files:
            if device_in(spec_file, name):
                reasons.append(advice.unread_directory(reader, spec_file, name))
                yield reasons[-1]
    if reasons:
        return
    for directory in directories:
        if directory.reason and (directory.state != "absent" or not files):
            yield directory.reason
    kind = name.partition("=")[0]
    for file in files:
        # A file that no release reads has no spec: it may define any name.
        if file.reason and (file.file.spec is None or file.file.spec.kind == kind):
            yield file.reason
    for directory in directories:
        for path in host.directory(directory.path).dead_links:
            yield advice.dangling_file(reader, path, host.link_text(path))


def _unreadable_directory(reader: Reader, directory: Directory, access: Access) -> Finding:
    if not directory.is_directory and access.error == errno.ENOTDIR:
        message = f"{directory.path} is not a directory"
        fix = advice.without(reader, directory.path)
        return Finding("CDG-F106", "error", message, subject=directory.path, fix=fix)
    message = f"{reader.title} cannot read the directory {directory.path}: {access.reason}"
    return Finding(
        "CDG-F106",
        "error",
        message,
        subject=directory.path,
        fix=f"sudo chmod 0755 {directory.path}",
    )
