# SPDX-License-Identifier: Apache-2.0
"""Writes and removes our files in a spec directory, and leaves those of other programs alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cdi_base import files
from cdi_base.cdi import spec_directories
from cdi_base.findings import Finding
from cdi_base.host_fingerprint import stamp
from cdi_gen import store
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.problem import SpecError
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import base_name, join, parent
from cdi_gen.refresh.record import Record, WrittenFile

if TYPE_CHECKING:
    from cdi_gen.refresh.specs import NewSpec  # imports `generate`, which a check seldom needs

PREFIX, SUFFIX = ".cdi-gen-refresh-", ".tmp"
"""Of temporary files, which only the process with the lock creates."""


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()


def content(path: str) -> bytes | None:
    """Return the content of our file; None if no regular file of this name can be read."""
    try:
        return files.read(path, wire.MAX_SIZE)
    except OSError:
        return None


def installed(path: str) -> Spec | None:
    """Return the spec of our file; None if the file is missing, or is no spec."""
    text = content(path)
    try:
        return wire.load(text) if text is not None else None
    except SpecError:
        return None


def is_ours(path: str, file: WrittenFile) -> bool:
    """Whether the file has a content that we wrote."""
    old = content(path)
    return old is not None and digest(old) in file.digests


def exists(path: str) -> bool:
    """Whether something has this name."""
    return os.path.lexists(path)


def changed_files(record: Record) -> Iterator[Finding]:
    """Yield a finding for each of our files that is missing or has another content."""
    for path, file in record.files.items():
        if not exists(path):
            yield _changed(path, "the file is missing")
        elif not is_ours(path, file):
            yield _changed(path, "the content was changed since the last refresh")


def _changed(path: str, reason: str) -> Finding:
    return Finding("CDG-V110", "error", f"{path}: {reason}", subject=path)


def has_content(new: NewSpec) -> bool:
    """Whether the file has the content of the spec already."""
    return content(new.path) == new.text.encode()


def write(new: NewSpec) -> None:
    """Write the spec.

    Raises:
        UnsafeError, CdiGenError: see `store.write`.
    """
    temporary = f"{PREFIX}{base_name(new.path)}{SUFFIX}"
    store.write(new.text, new.path, spec=new.spec, temporary=temporary)


def remove(path: str) -> None:
    """Remove a file of ours.

    Raises:
        CdiGenError: the file cannot be removed.
    """
    try:
        files.discard(path)
    except OSError as error:
        raise CdiGenError(
            f"cannot remove {path}, which does not describe this host any more: {error.strerror}",
            code="CDG-F004",
            subject=path,
        ) from error


def remove_litter(directory: str) -> None:
    """Remove the temporary files of a refresh that was killed; call it with the lock held."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            try:
                files.discard(join(directory, name))
            except OSError:
                continue  # on a read-only file system


def written(path: str, digests: list[str]) -> WrittenFile:
    """Return the record of a file that has one of these contents."""
    return WrittenFile([*stamp(path)], digests)


def require_own_devices(new: NewSpec) -> None:
    """Check that no other file of the directory defines a device of the spec.

    Engines resolve no device that two files of a directory define, so that a container would get no
    GPU at all.

    Raises:
        CdiGenError: another file defines a device, or the file belongs to another program.
    """
    directory = parent(new.path)
    names = {device.name for device in new.spec.devices}
    for path, spec_content in _others(directory, new.spec.kind):
        try:
            other = wire.load(spec_content)
        except SpecError:
            continue  # engines ignore the file, too
        if path == new.path:
            if other.kind == new.spec.kind:
                continue
            raise CdiGenError(
                f"{path} is a spec of {other.kind}, and not replaced by one of {new.spec.kind}",
                hint="rename the file, or choose another directory: --output-directory DIR",
                code="CDG-V003",
                subject=path,
            )
        common = names.intersection(device.name for device in other.devices)
        if other.kind == new.spec.kind and common:
            raise CdiGenError(
                f"{path} defines {other.kind}={min(common)} too; engines resolve no device that "
                f"two files of {directory} define",
                hint="remove the file if no program needs it, and stop the program that writes it "
                "(nvidia-cdi-refresh.service writes nvidia.yaml)",
                code="CDG-V003",
                subject=path,
            )


def _others(directory: str, kind: str) -> list[tuple[str, bytes]]:
    """Return the files that may be specs of the kind, or that have the name of ours."""
    vendor, _, class_ = kind.partition("/")
    words = (vendor.encode(), class_.encode())
    try:
        spec_files = [*spec_directories.files(directory)]
    except OSError:
        return []
    return [
        (file.path, file.content)
        for file in spec_files
        if file.content and all(word in file.content for word in words)
    ]
