# SPDX-License-Identifier: Apache-2.0
"""Replaces the configuration file of an engine, which belongs to the administrator.

The target of a symbolic link is replaced, and keeps its owner, mode and extended attributes. The
file always has its old or its new content. If another process has changed the file since it was
read, up to the moment of the replacement, that change is kept. A backup has the old content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cdi_base import files
from cdi_gen.engines.change import configuration_file, exchange
from cdi_gen.engines.change.configuration_file import LOOK, ConfigurationFile
from cdi_gen.engines.change.record import Record
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import parent

NOTHING = Record()


def replace(
    file: ConfigurationFile, text: str | None, record: Record = NOTHING, *, first: bool = False
) -> str | None:
    """Replace a file that was read, or remove it; return the path of its backup.

    Args:
        file: the file as it was read.
        text: the new text; None removes the file.
        record: the record of our changes that are in the new text.
        first: whether this is our first change of the file.

    The record is written before the file, so that every change of ours has a record. An empty
    record is removed after the file is written.

    Raises:
        CdiGenError: the file has changed since it was read, or cannot be written. It is unchanged.
    """
    try:
        files.make_directory(parent(file.real_path))
        backup = _back_up(file, first=first) if file.data is not None else None
        if record.steps:
            _write_record(file, record)
        if text is None:
            aside = _temporary_path(file.real_path, file)
            with _unchanged(file) as expected:
                exchange.take(file.real_path, aside, expected)
            os.unlink(aside)
        else:
            _write(file.real_path, text.encode(), file, instead=file)
        if not record.steps:
            with suppress(FileNotFoundError):
                os.unlink(file.record)
        _synchronize(parent(file.real_path))
    except OSError as error:
        raise configuration_file.failure(file.path, error, "CDG-X003") from error
    return backup


def remove_backup(file: ConfigurationFile, text: str | None) -> None:
    """Remove the backup from before the first change, if the file has that content again."""
    with suppress(OSError, CdiGenError):
        if text is not None and configuration_file.read(file.backup).data == text.encode():
            os.unlink(file.backup)


def _back_up(file: ConfigurationFile, *, first: bool) -> str:
    """Write a backup of a file, unless a backup has the content; keep the first backup."""
    exists = os.path.lexists(file.backup)
    if exists and not os.path.islink(file.backup):
        with suppress(CdiGenError):
            if configuration_file.read(file.backup).data == file.data:
                return file.backup
    if first and not exists:
        with suppress(FileNotFoundError):
            os.unlink(file.last_backup)
        _write(file.backup, file.data or b"", file)
        return file.backup
    _write(file.last_backup, file.data or b"", file, replaces=True)
    return file.last_backup


def _write_record(file: ConfigurationFile, record: Record) -> None:
    """Write a record. Its owner is this process: the owner of the file may not write it.

    There is a record at any time, also if this process is killed or the file system is full.
    """
    owner = (os.geteuid(), os.getegid())
    like = file._replace(owner=owner, mode=0o644, attributes=(), data=None)
    _write(file.record, record.text().encode(), like, replaces=True)


def _write(
    path: str,
    data: bytes,
    like: ConfigurationFile,
    *,
    instead: ConfigurationFile | None = None,
    replaces: bool = False,
) -> None:
    """Write a file under a temporary name, to the disk, and then give it its own name.

    Args:
        path: the file.
        data: its content.
        like: the file whose attributes it gets.
        instead: the file that it replaces, if that has not changed.
        replaces: whether it replaces whatever has the name.
    """
    temporary = _temporary_path(path, like)
    files.write_new(
        temporary,
        data,
        durable=True,
        mode=like.mode,
        owner=like.owner if like.data is not None else None,
        prepare=lambda file: _set_attributes(file, like),
    )
    try:
        if instead is not None and instead.data is not None:
            with _unchanged(instead) as expected:
                exchange.put(temporary, path, expected)
        elif replaces:
            os.rename(temporary, path)
        else:
            # Unlike a rename, a link never replaces a file that was created in the meantime.
            os.link(temporary, path, follow_symlinks=False)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _temporary_path(path: str, like: ConfigurationFile) -> str:
    """A name that no other process knows, on the same file system."""
    directory = parent(like.backup)  # not the drop-in directory, in case this process is killed
    if os.stat(directory).st_dev != os.stat(parent(path)).st_dev:
        directory = parent(path)
    return os.path.join(directory, files.temporary_name())


def _set_attributes(file: int, like: ConfigurationFile) -> None:
    """Give a new file the extended attributes of the old one."""
    if like.data is not None:
        for name, value in like.attributes:
            os.setxattr(file, name, value)


@contextmanager
def _unchanged(file: ConfigurationFile) -> Iterator[exchange.FileState]:
    """The current state of the file, which must be the file that was read, with the same content.

    Raises:
        CdiGenError: another process has changed the file, before or within the context.
    """
    message = f"{file.path} was changed by another process in the meantime; not overwritten"
    try:
        expected = exchange.state_of(file.real_path)
        _require_same(configuration_file.read(file.path), file)
        yield expected
    except FileNotFoundError:
        raise CdiGenError(message, hint=LOOK, code="CDG-E007", subject=file.path) from None
    except exchange.ChangedError as error:
        if error.saved:
            message += f"; {error.saved} has a content that the file had in between"
        raise CdiGenError(message, hint=LOOK, code="CDG-E007", subject=file.path) from None


def _require_same(one: ConfigurationFile, other: ConfigurationFile) -> None:
    if (one.real_path, one.identity, one.data) != (other.real_path, other.identity, other.data):
        raise exchange.ChangedError


def _synchronize(directory: str) -> None:
    with suppress(OSError):  # the file is replaced anyway
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            files.synchronize(descriptor)
        finally:
            os.close(descriptor)
