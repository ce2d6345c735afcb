# SPDX-License-Identifier: Apache-2.0
"""Reads and writes ``/run/cdi-gen/refresh.json``: what the last refresh looked at and wrote.

The record lets a refresh see at once that nothing has changed, and remove the specs that it wrote
itself and no others. It is written before the specs too, with the digests that they will have, so
that a killed refresh leaves no file of unknown origin.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from cdi_base import PREPARED_DIRECTORY, strict_json, trust
from cdi_base.files import discard, make_directory, replace_file
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.refresh.settings import State

DIRECTORY = PREPARED_DIRECTORY
NAME = "refresh.json"
TEMPORARY = ".refresh.json.tmp"
FORMAT = 1
MAX_BYTES = 16 << 20


class WrittenFile(NamedTuple):
    """A spec file of ours."""

    stamp: State
    """The attributes of the file after it was written; see `cdi_base.host_fingerprint.stamp`."""
    digests: list[str]
    """SHA-256 of the contents that we may have written: a killed refresh has two."""


class Record(NamedTuple):
    """The state of the host and of the specs after a refresh."""

    request: State
    """`Request.document` of the call."""
    key: State
    """The fingerprint of the host; empty while the specs are being written."""
    choices: State
    """Layout, watched nodes and hook program, from which the fingerprint is computed again."""
    sources: dict[str, State]
    """Stamps of the driver's files and their directories, by path of the host."""
    directories: dict[str, State]
    """What the spec directories contained."""
    files: dict[str, WrittenFile]
    """Our spec files by path."""
    driver_version: str = ""
    libraries: tuple[str, ...] = ()
    """The driver's libraries, by path of the host."""
    other_versions: tuple[str, ...] = ()
    """Versions of other drivers whose libraries were in the same directories."""
    left_out: tuple[str, ...] = ()
    """Devices that were left out as unusable."""
    is_clean: bool = True
    """Whether there was nothing to say of the files of other programs in the spec directories."""
    tree: str = ""
    """Path of the driver tree that the specs use; empty without one."""


def load(directory: str = DIRECTORY) -> Record | None:
    """Return the record; None if there is none that can be trusted and read."""
    try:
        content = trust.read(f"{directory}/{NAME}", MAX_BYTES)
        document: Any = strict_json.parse(content)
        return _record(document) if document.pop("format") == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Without a record the next refresh looks at the host and writes a new one.
        return None


def _record(document: dict[str, Any]) -> Record:
    """Return the record of a JSON document.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not a record of this format.
    """
    for name, kind in _KINDS.items():
        if type(document[name]) is not kind:
            raise TypeError(name)
    texts = json.dumps(document, ensure_ascii=False)
    if "\\u0000" in texts:
        raise ValueError("NUL")
    os.fsencode(texts)  # the system accepts every text as a path
    for name in ("sources", "directories"):
        _require(document[name].values(), list)
    for name in ("libraries", "other_versions", "left_out"):
        _require(document[name], str)
        document[name] = tuple(document[name])
    files = {path: WrittenFile(*values) for path, values in document.pop("files").items()}
    for file in files.values():
        _require(file, list)
        _require(file.digests, str)
    return Record(files=files, **document)


_KINDS: dict[str, type] = {
    **dict.fromkeys(("request", "key", "choices"), list),
    **dict.fromkeys(("libraries", "other_versions", "left_out"), list),
    **dict.fromkeys(("sources", "directories", "files"), dict),
    **dict.fromkeys(("driver_version", "tree"), str),
    "is_clean": bool,
}
"""The types in the JSON form."""


def _require(values: Iterable[object], kind: type) -> None:
    if not all(type(value) is kind for value in values):
        raise TypeError(kind)


def write(record: Record, directory: str = DIRECTORY) -> None:
    """Write the record atomically.

    Raises:
        CdiGenError: the file cannot be written.
    """
    document = {"format": FORMAT, **record._asdict()}
    path = f"{directory}/{NAME}"
    try:
        discard(f"{directory}/{TEMPORARY}")
        content = json.dumps(document, separators=(",", ":")).encode()
        replace_file(path, content, temporary=TEMPORARY)
    except OSError as error:
        raise _unwritable(path, error) from error


def remove(directory: str = DIRECTORY) -> None:
    """Remove the record: no spec is ours any more.

    Raises:
        CdiGenError: the file cannot be removed.
    """
    path = f"{directory}/{NAME}"
    try:
        discard(f"{directory}/{TEMPORARY}")
        discard(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def prepare_directory(directory: str = DIRECTORY) -> None:
    """Create the directory of the record, or check that only root can change it.

    Raises:
        UnsafeError: another user could change the record.
        CdiGenError: the directory cannot be created.
    """
    try:
        make_directory(directory)
        reason = trust.fault(directory, owners={0, os.geteuid()})
    except OSError as error:
        raise _unwritable(directory, error) from error
    if reason:
        raise UnsafeError(
            f"{directory} is not used: {reason}",
            hint="it decides which spec files are removed, so only root may be able to change it: "
            "correct owner and mode (root:root 0755)",
            code="CDG-V004",
            subject=directory,
        )


def _unwritable(path: str, error: OSError) -> CdiGenError:
    return CdiGenError(
        f"cannot write {path}: {error.strerror}",
        hint="run the command as root" if isinstance(error, PermissionError) else None,
        code="CDG-F004",
        subject=path,
    )
