# SPDX-License-Identifier: Apache-2.0
"""Puts an installation in place on a host, and takes exactly that away again.

A record says which files and links belong to the installation. It is written first, so that an
installation that was killed can be taken away too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cdi_base import strict_json, trust
from cdi_base.files import is_temporary_name, make_directory, read, replace_file
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.paths import join, missing_directories, parent
from cdi_gen.programs import install as programs
from cdi_gen.programs.build_root import place, require
from cdi_gen.programs.host_files import HostFile

RECORD = "/var/lib/cdi-gen/installation.json"
"""The record, as a path without a build root."""

FORMAT = 1

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Installation:
    """What an installation consists of; all paths are without a build root."""

    prefix: str
    files: Mapping[str, str]
    """SHA-256 of each file, by path."""
    links: Mapping[str, str]
    """The text of each symbolic link, by path."""
    directories: tuple[str, ...] = ()
    """The directories that did not exist before; a directory comes after its parents."""

    @property
    def programs(self) -> str:
        """The directory of the programs that engines run; it belongs to cdi-gen alone."""
        return join(self.prefix, "libexec", "cdi-gen")


@dataclass(frozen=True)
class Removal:
    """What `uninstall` did."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    """Files and links that were changed after the installation."""


def plan(prefix: str, files: Iterable[HostFile], links: Iterable[str]) -> Installation:
    """Return an installation of these files and of links under these names of NVIDIA's."""
    return Installation(
        prefix=prefix,
        files={file.path: _digest(file.content) for file in files},
        links={join(prefix, "bin", name): programs.link_text(name) for name in links},
    )


def require_safe_program(program: str) -> None:
    """Reject a `cdi-gen` that units must not run as root.

    Raises:
        UnsafeError: a user other than root could change the program.
    """
    try:
        reason = trust.fault(program, owners=trust.machine_root())
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise UnsafeError(
            f"{program} would be run as root when the machine starts, and {reason}",
            hint="install cdi-gen for root: sudo make install, a distribution's package, or sudo "
            "pipx install --global cdi-gen",
            code="CDG-P004",
            subject=program,
        )


def install(
    installation: Installation,
    files: Iterable[HostFile],
    *,
    root: str = "/",
    python: str = programs.PYTHON,
    program: str,
    record: bool = True,
) -> None:
    """Put programs, files and links in place. Nothing asks for a GPU or a driver.

    Args:
        installation: the plan for these files.
        files: what is installed beside the programs.
        root: the directory that becomes ``/`` of the host.
        python: the interpreter of the programs.
        program: the path of `cdi-gen` on the host.
        record: whether to write the record; a package manager has its own.

    Raises:
        UnsafeError: a user other than root could change an installed program.
        CdiGenError: the root does not exist, a file cannot be written, or a file of another
            program has its name.
    """
    require(root)
    try:
        is_first = not os.path.lexists(place(root, RECORD))
        recorded = _with_earlier(installation, root) if record else None
        if recorded:
            _write(place(root, RECORD), _encode(recorded))
        try:
            programs.install(installation.prefix, root=root, python=python, generator=program)
        except CdiGenError:
            if recorded and is_first and not os.path.lexists(place(root, recorded.programs)):
                _remove_record(recorded, root)  # nothing else was written
            raise
        for file in files:
            _write(place(root, file.path), file.content)
    except OSError as error:
        raise _refused(error, root) from error
    for path in installation.links:
        programs.link(os.path.basename(path), installation.prefix, root=root)


def uninstall(*, root: str = "/") -> Removal:
    """Remove what the record lists; a file that was changed since stays.

    Raises:
        UnsafeError: a user other than root could change the record.
        CdiGenError: the root does not exist, there is no record, it is damaged, or a file cannot
            be removed.
    """
    require(root)
    installation = _read_record(root)
    removed: list[str] = []
    kept: list[str] = []
    try:
        for path, text in installation.links.items():
            target = place(root, path)
            if os.path.islink(target) and os.readlink(target) == text:
                os.unlink(target)
                removed.append(path)
            elif os.path.lexists(target):
                kept.append(path)
        for path, digest in installation.files.items():
            _remove_file(root, path, digest, removed, kept)
        directory = place(root, installation.programs)
        if os.path.isdir(directory) and not os.path.islink(directory):
            shutil.rmtree(directory)
            removed.append(installation.programs)
        for name in {parent(path) for path in (RECORD, *installation.files)}:
            _remove_temporary_files(place(root, name))
        _remove_record(installation, root)
    except OSError as error:
        raise _refused(error, root) from error
    return Removal(tuple(removed), tuple(kept))


def _remove_file(root: str, path: str, digest: str, removed: list[str], kept: list[str]) -> None:
    target = place(root, path)
    try:
        content = read(target, MAX_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise
        kept.append(path)
        return
    if _digest(content) != digest:
        kept.append(path)
        return
    os.unlink(target)
    removed.append(path)


def _remove_record(installation: Installation, root: str) -> None:
    """Remove the record, and the directories that the installation has created."""
    os.unlink(place(root, RECORD))
    for name in reversed(installation.directories):
        _remove_empty(place(root, name))


def _remove_temporary_files(directory: str) -> None:
    """Remove the files that an installation left that was killed."""
    if os.path.isdir(directory):
        for name in filter(is_temporary_name, os.listdir(directory)):
            os.unlink(join(directory, name))


def _remove_empty(directory: str) -> None:
    if not os.path.lexists(directory):
        return  # on a read-only file system rmdir(2) says that, whether the directory exists or not
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EBUSY):
            raise


def _missing_directories(installation: Installation, root: str) -> list[str]:
    """Return the directories that the installation will create; a directory after its parents."""
    paths = (installation.programs, *installation.files, *installation.links, RECORD)
    missing = missing_directories(
        map(parent, paths), lambda path: os.path.lexists(place(root, path))
    )
    return missing[::-1]


def _with_earlier(installation: Installation, root: str) -> Installation:
    """Return the installation with the links and directories of an earlier one.

    The files of the earlier one that this one does not have are removed: a unit of another version
    would run commands that do not exist.
    """
    missing = _missing_directories(installation, root)
    try:
        earlier = _read_record(root)
    except CdiGenError:
        return replace(installation, directories=tuple(dict.fromkeys(missing)))
    if earlier.prefix != installation.prefix:
        raise CdiGenError(
            f"cdi-gen is installed in {earlier.prefix} already",
            hint=f"remove it first: cdi-gen uninstall; or use --prefix {earlier.prefix}",
            code="CDG-P011",
            subject=earlier.prefix,
        )
    for path in earlier.files.keys() - installation.files.keys():
        _remove_file(root, path, earlier.files[path], [], [])
    return replace(
        installation,
        links={**earlier.links, **installation.links},
        directories=tuple(dict.fromkeys((*earlier.directories, *missing))),
    )


def _read_record(root: str) -> Installation:
    path = place(root, RECORD)
    try:
        reason = trust.fault(path)
        if reason:
            raise UnsafeError(
                f"{path} is not read: {reason}",
                hint="only root may be able to change it: correct owner and mode",
                code="CDG-P012",
                subject=path,
            )
        return _decode(strict_json.parse(read(path, MAX_BYTES)))
    except FileNotFoundError as error:
        raise CdiGenError(
            f"{path}: no such file: `cdi-gen install` has not installed cdi-gen here",
            hint="remove a distribution's package with the package manager, and an installation "
            "of `make install` with `make uninstall`",
            code="CDG-P013",
            subject=path,
        ) from error
    except OSError as error:
        raise _refused(error, root) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CdiGenError(
            f"{path} is damaged: {error}",
            hint="run `cdi-gen install` again, then `cdi-gen uninstall`",
            code="CDG-P012",
            subject=path,
        ) from error


def _decode(document: Any) -> Installation:
    """Return the installation of a record.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is not a record of this format.
    """
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}")
    return Installation(
        prefix=_path(document["prefix"]),
        files={_path(path): str(digest) for path, digest in document["files"].items()},
        links={_path(path): str(text) for path, text in document["links"].items()},
        directories=tuple(_path(path) for path in document["directories"]),
    )


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError(f"{value!a} is not an absolute path")
    if "/../" in f"{value}/":
        raise ValueError(f"{value!a} has a component ..")
    os.fsencode(value)  # the system accepts the text as a path
    return value


def _encode(installation: Installation) -> bytes:
    document = {
        "format": FORMAT,
        "prefix": installation.prefix,
        "files": dict(installation.files),
        "links": dict(installation.links),
        "directories": installation.directories,
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _write(path: str, content: bytes) -> None:
    make_directory(parent(path))
    replace_file(path, content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _refused(error: OSError, root: str) -> CdiGenError:
    return CdiGenError(
        f"{error.filename or root}: {error.strerror}",
        hint=programs.refusal_hint(error),
        code="CDG-P003",
        subject=str(error.filename or root),
    )
