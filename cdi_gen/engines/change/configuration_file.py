# SPDX-License-Identifier: Apache-2.0
"""Reads the configuration file of an engine, its backups and the record of our changes.

The three are beside the file: `BACKUP` has the content before our first change, `LAST_BACKUP` the
content before our last change, and `RECORD` our changes.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from cdi_base import files, trust
from cdi_gen.engines.change.record import Record, RecordError, digest
from cdi_gen.engines.change.record import read as read_record
from cdi_gen.engines.text.syntax import UTF_8_HINT
from cdi_gen.errors import CdiGenError, UnsafeError

MAX_BYTES = 1 << 20
MAX_RECORD = 64 << 20
"""The record has the values that each write replaced, and JSON writes some characters as six."""

BACKUP = ".cdi-gen.bak"
LAST_BACKUP = ".cdi-gen.last.bak"
RECORD = ".cdi-gen.json"

LOOK = "look at the file, and run the command again"
_REMOVE_RECORD = "remove the record, and revert by hand what cdi-gen wrote"

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of content and attributes, in ns."""


class ConfigurationFile(NamedTuple):
    """A file as it was read, or a path without a file."""

    path: str
    """The path that the engine uses."""
    real_path: str
    """The path with every symbolic link resolved."""
    data: bytes | None
    identity: Identity | None
    owner: tuple[int, int]
    mode: int
    attributes: tuple[tuple[str, bytes], ...]
    names: int
    """The number of names (hard links) of the file."""

    @property
    def text(self) -> str | None:
        """The content; None if there is no file."""
        return None if self.data is None else _decoded(self.path, self.data)

    @property
    def backup(self) -> str:
        """The path of the backup from before the first change."""
        return self._beside(BACKUP)

    @property
    def last_backup(self) -> str:
        """The path of the backup from before the last change, if there were several changes."""
        return self._beside(LAST_BACKUP)

    @property
    def record(self) -> str:
        """The path of the record of our changes."""
        return self._beside(RECORD)

    def fault(self, trusted: tuple[int, ...]) -> str | None:
        """Why a user who is not trusted can edit the file; None if no such user can."""
        if self.data is None:
            return None
        return trust.attributes_fault(self.owner[0], self.mode, trusted)

    def _beside(self, ending: str) -> str:
        """A path beside the file, or beside a drop-in directory: CRI-O reads every file in it."""
        directory, name = os.path.split(self.real_path)
        if directory.endswith(".d"):
            directory, drop_ins = os.path.split(directory)
            name = f"{drop_ins}.{name}"
        return os.path.join(directory, name + ending)


def read_text(path: str) -> str | None:
    """The text of a file; None if the file does not exist.

    Raises:
        CdiGenError: the file cannot be read, or is not UTF-8 text.
    """
    return read(path).text


def read(path: str, limit: int = MAX_BYTES) -> ConfigurationFile:
    """A file, with the attributes that are needed to replace it.

    Args:
        path: the path of the file.
        limit: the largest size in bytes.

    Raises:
        CdiGenError: the file is not a regular file, is too large, or cannot be read.
    """
    try:
        real_path = os.path.realpath(path)
    except ValueError as error:  # configuration can spell NUL and halves of surrogate pairs
        message = f"{path}: no file can have this name"
        raise CdiGenError(message, code="CDG-E001", subject=path) from error
    try:
        file = files.open_regular(real_path)
    except FileNotFoundError:
        return ConfigurationFile(path, real_path, None, None, (-1, -1), 0o644, (), 1)
    except files.NotRegularError:
        message = f"{path}: not a regular file"
        raise CdiGenError(message, code="CDG-E001", subject=path) from None
    except OSError as error:
        raise failure(path, error) from error
    try:
        status = os.fstat(file)
        data = files.beginning(file, limit + 1)
        if len(data) > limit:
            raise CdiGenError(
                f"{path}: larger than {limit >> 10} KiB, so it is not a configuration file",
                code="CDG-E001",
                subject=path,
            )
        attributes = _attributes(file)
    except OSError as error:
        raise failure(path, error) from error
    finally:
        os.close(file)
    return ConfigurationFile(
        path=path,
        real_path=real_path,
        data=data,
        identity=_identity(status),
        owner=(status.st_uid, status.st_gid),
        mode=stat.S_IMODE(status.st_mode),
        attributes=attributes,
        names=status.st_nlink,
    )


def check(path: str, *, trusted: tuple[int, ...] = (0,)) -> None:
    """Reject a file that a user who is not trusted could replace.

    The file itself may have any owner: its owner controls the engine already.

    Raises:
        UnsafeError: another user could change a directory or a link of the path.
        CdiGenError: a directory of the path cannot be read.
    """
    try:
        fault = trust.fault(path, owners=trusted, may_be_missing=True, end_may_be_untrusted=True)
    except OSError as error:
        raise failure(path, error) from error
    if fault:
        raise UnsafeError(
            f"{path} is not changed: {fault}",
            hint="let only root write there: another user could replace the file",
            code="CDG-E005",
            subject=path,
        )


def recorded(file: ConfigurationFile, *, trusted: tuple[int, ...] = (0,)) -> Record:
    """The record of our changes to a file, without the changes that the file does not have.

    Raises:
        UnsafeError: a user who is not trusted could have written the record.
        CdiGenError: the record cannot be read.
    """
    record_file = read(file.record, MAX_RECORD)
    if record_file.data is None:
        return Record()
    if fault := record_file.fault(trusted):
        raise UnsafeError(
            f"{file.record} {fault}: another user could have written the record",
            hint=_REMOVE_RECORD,
            code="CDG-E006",
            subject=file.record,
        )
    try:
        record = read_record(record_file.data)
    except RecordError as error:
        raise invalid_record(file, str(error)) from None
    return record.as_far_as(digest(file.data))


def invalid_record(file: ConfigurationFile, reason: str) -> CdiGenError:
    """The error about a record by which no change can be reverted."""
    return CdiGenError(
        f"{file.record}: {reason}", hint=_REMOVE_RECORD, code="CDG-E006", subject=file.record
    )


def original(file: ConfigurationFile, record: Record) -> ConfigurationFile | None:
    """The file before the first recorded change; None if no backup has that content."""
    first = record.steps[0].before
    if first is None:
        return file._replace(data=None)
    for path in (file.backup, file.last_backup):
        backup = read(path)
        if digest(backup.data) == first:
            return backup
    return None


def _attributes(file: int) -> tuple[tuple[str, bytes], ...]:
    try:
        return tuple((name, os.getxattr(file, name)) for name in os.listxattr(file))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return ()
        raise


def _identity(status: os.stat_result) -> Identity:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _decoded(path: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        message = f"{path}: not UTF-8 text (byte {error.start})"
        raise CdiGenError(message, hint=UTF_8_HINT, code="CDG-E001", subject=path) from None


def failure(path: str, error: OSError, code: str = "CDG-E001") -> CdiGenError:
    """The error about a file that the kernel refused to read or to change."""
    is_denied = error.errno in (errno.EACCES, errno.EPERM)
    hint = "run the command as root" if is_denied and os.geteuid() != 0 else None
    if error.errno == errno.EEXIST:
        message = f"{path} was created by another process in the meantime; not overwritten"
        return CdiGenError(message, hint=LOOK, code="CDG-E007", subject=path)
    return CdiGenError(
        f"{path}: {error.strerror}; the file is unchanged", hint=hint, code=code, subject=path
    )
