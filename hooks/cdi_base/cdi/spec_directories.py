# SPDX-License-Identifier: Apache-2.0
"""Reads spec directories as engines do: later directories win, and invalid files are ignored.

The shim, the prestart hook and the library share this reader. Engines read every file as YAML,
whatever its suffix. This reader parses JSON only, which nearly all specs are; the library converts
any other text to JSON (`prepared`). Unlike engines, the shim ignores files that an untrusted user
could change.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import host_fingerprint, trust
from cdi_base.cdi import json_text
from cdi_base.errors import HookError, shown
from cdi_base.files import NotRegularError, beginning, open_regular
from cdi_base.findings import Finding
from cdi_base.strict_json import parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Optional  # noqa: TID251  (never imported when it runs)

    Document = dict[str, object]
    Stamp = list[int]
    Conversion = Optional[Document]
    """`{"document": ...}` or `{"problem": ...}`; None if the file was not converted."""
    Tell = Callable[[Finding], object]

SUFFIXES = (".json", ".yaml")


class SpecFile:
    """One file of a spec directory, with its attributes when it was opened.

    `content` is None if there is a `problem`. `is_closed` is whether this process has no permission
    to read the file; another user may have it. `distrust` is why a user other than root and the
    caller could change the file; None if no such user could. `stamp` changes when the file changes.
    """

    __slots__ = ("content", "distrust", "is_closed", "path", "problem", "stamp")

    def __init__(self, path: str, closed: OSError | None = None) -> None:
        self.path = path
        self.is_closed = closed is not None
        self.problem = f"cannot be read: {closed.strerror}" if closed else None
        self.content: bytes | None = None
        self.distrust: str | None = None
        self.stamp: Stamp = []


def files(path: str, directory: int | None = None) -> Iterator[SpecFile]:
    """Yield the files that engines would read, in their order, without blocking and within limits.

    Args:
        path: of the directory.
        directory: an open descriptor of the directory, which a path may no longer lead to.

    Raises:
        OSError: the directory cannot be read.
    """
    for name in sorted(os.listdir(path if directory is None else directory)):
        if name.endswith(SUFFIXES):
            file = _read_file(f"{path}/{name}", name, directory)
            if file:
                yield file


def _read_file(path: str, name: str, directory: int | None) -> SpecFile | None:
    """Return the file; None if it is a directory, or was removed."""
    relative = path if directory is None else name
    try:
        descriptor = open_regular(relative, directory=directory, follow=True)
    except FileNotFoundError:
        return None
    except NotRegularError as error:
        if error.errno == errno.EISDIR:
            return None
        file = SpecFile(path)
        file.problem = "is not a regular file"
        return file
    except OSError as error:
        return SpecFile(path, error)
    file = SpecFile(path)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISLNK(os.lstat(relative, dir_fd=directory).st_mode):
            file.distrust = "is a symbolic link"
        file.distrust = file.distrust or trust.file_fault(status)
        file.stamp = stamp(status)
        content = beginning(descriptor, json_text.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return SpecFile(path, error)
    finally:
        os.close(descriptor)
    if len(content) > json_text.MAX_BYTES:
        file.problem = f"more than {json_text.MAX_BYTES} bytes; the largest specs have 150,000"
    else:
        file.content = content
    return file


def stamp(status: os.stat_result) -> Stamp:
    """Return attributes that change when the file changes."""
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]


def json_document(content: bytes) -> Document | None:
    """Return the object of a JSON text; None if only a YAML reader can read the text."""
    try:
        document = parse_object(content, "a spec", longest_key=json_text.MAX_KEY)
        text = content.decode()
    except (HookError, UnicodeError):
        return None
    return document if json_text.incompatibility(text) is None else None


def read(
    directories: Sequence[str],
    convert: Callable[[Mapping[str, Stamp]], Mapping[str, Conversion]],
    tell: Tell,
) -> list[list[Document]]:
    """Return the specs of each directory, in the given order.

    Args:
        directories: in rising priority.
        convert: returns the library's conversions of files that are not JSON, by path and stamp.
        tell: receives a finding for each file that is ignored.
    """
    listings = [
        [*_trusted_files(directory, tell)] for directory in host_fingerprint.distinct(directories)
    ]
    spec_files = [file for listing in listings for file in listing]
    documents = {file.path: json_document(file.content or b"") for file in spec_files}
    others = {file.path: file.stamp for file in spec_files if documents[file.path] is None}
    if others:
        documents.update(_converted(others, convert, tell))
    return [
        [*_valid_specs([(file.path, documents[file.path]) for file in listing], tell)]
        for listing in listings
    ]


def _trusted_files(path: str, tell: Tell) -> Iterator[SpecFile]:
    try:
        directory = trust.open_directory(path)
    except FileNotFoundError:
        return
    except OSError as error:
        # EPERM comes from `trust`, whose reasons are predicates: "belongs to user 1000".
        subject = "it " if error.errno == errno.EPERM else ""
        tell(_unused_directory(path, f"{subject}{error.strerror}"))
        return
    try:
        for file in files(path, directory):
            reason = file.problem or file.distrust
            if reason is None:
                yield file
            else:
                tell(_unused(file.path, reason, "CDG-R402"))
    except OSError as error:
        tell(_unused_directory(path, f"{error.strerror}"))
    finally:
        os.close(directory)


def _converted(
    stamps: Mapping[str, Stamp],
    convert: Callable[[Mapping[str, Stamp]], Mapping[str, Conversion]],
    tell: Tell,
) -> dict[str, Document | None]:
    try:
        conversions = convert(stamps)
    except HookError as error:
        for path in stamps:
            tell(_unused(path, str(error), "CDG-R404"))
        return {}
    documents: dict[str, Document | None] = {}
    for path in stamps:
        conversion = conversions.get(path) or {}
        document = conversion.get("document")
        if isinstance(document, dict):
            documents[path] = document
        else:
            reason = conversion.get("problem") or "it is not a valid spec"
            tell(_unused(path, f"{reason}; see: cdi-gen validate", "CDG-R403"))
    return documents


def _valid_specs(documents: list[tuple[str, Document | None]], tell: Tell) -> Iterator[Document]:
    """Yield the specs that at least one engine accepts, as it reads them."""
    if not documents:
        return
    # On a host without spec files the import would cost 0.7 ms. No file of an image was read yet.
    from cdi_base.cdi import specification  # noqa: PLC0415

    for path, document in documents:
        if document is None:
            continue
        try:
            spec, faults = specification.judge(document)
        except specification.TooMuchError as error:
            tell(_unused(path, str(error), "CDG-R403"))
            continue
        if specification.ignored_by(faults) == specification.EVERY:
            fault = next(
                (fault for fault in faults if fault.refused_by == specification.EVERY), None
            )
            reason = f"engines ignore it: {fault or faults[0]}"
            tell(_unused(path, reason, "CDG-R403"))
        else:
            yield spec


def _unused(path: str, reason: object, code: str) -> Finding:
    return Finding(code, "warning", f"{shown(path)} is not used: {reason}", subject=path)


def _unused_directory(path: str, reason: str) -> Finding:
    message = f"no spec of {shown(path)} is used: {reason}"
    return Finding("CDG-R401", "warning", message, subject=path)


def devices_of(kind: str, directories: Sequence[Sequence[Document]]) -> list[str]:
    """Return the names of the devices of a kind, in order, each once."""
    names: dict[str, None] = {}
    for directory in directories:
        for spec in directory:
            devices = spec.get("devices") if spec.get("kind") == kind else None
            for device in devices if isinstance(devices, list) else ():
                name = device.get("name") if isinstance(device, dict) else None
                if isinstance(name, str):
                    names[name] = None
    return [*names]
