# SPDX-License-Identifier: Apache-2.0
"""Reading and replacing the configuration file of an engine, which is a person's and not ours.

The file is edited where it is: behind a symbolic link, with its owner, mode and extended
attributes. It is the old one or the new one, whatever happens; and if somebody else has changed it
since it was read, it is left to them.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from cdi_gen import ownership
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.paths import parent
from cdi_gen.replacing import make_directory

MAX_BYTES = 1 << 20
BACKUP = ".cdi-gen.bak"

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and when content and attributes were last changed, in ns."""


class ConfigurationFile(NamedTuple):
    """A file as it was read; or that there was none."""

    path: str
    """As the engine knows it."""
    place: str
    """Where it is, every link followed."""
    data: bytes | None
    identity: Identity | None
    owner: tuple[int, int]
    mode: int
    attributes: tuple[tuple[str, bytes], ...]
    names: int
    """How many names (hard links) it has."""

    @property
    def text(self) -> str | None:
        """What is in it; None where there is no file."""
        return None if self.data is None else _decoded(self.path, self.data)

    @property
    def backup(self) -> str:
        """Where the backup of it is.

        Beside it; but beside a drop-in directory, not in it: CRI-O reads every file there.
        """
        directory, name = os.path.split(self.place)
        if directory.endswith(".d"):
            directory, drop_ins = os.path.split(directory)
            name = f"{drop_ins}.{name}"
        return os.path.join(directory, name + BACKUP)


def read_text(path: str) -> str | None:
    """The text of a file; None where there is none.

    Raises:
        CdiGenError: it can not be read, or is no text.
    """
    return read(path).text


def read(path: str) -> ConfigurationFile:
    """A file with all that is needed to replace it.

    Raises:
        CdiGenError: it is no regular file, too large, or can not be read.
    """
    place = os.path.realpath(path)
    try:
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ConfigurationFile(path, place, None, None, (-1, -1), 0o644, (), 1)
    except OSError as error:
        raise _failed(path, error) from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise CdiGenError(f"{path}: not a regular file")
        data = b""
        while chunk := os.read(file, MAX_BYTES + 1 - len(data)):
            data += chunk
        if len(data) > MAX_BYTES:
            raise CdiGenError(f"{path}: larger than {MAX_BYTES >> 10} KiB, so it is none of these")
        attributes = _attributes(file)
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        os.close(file)
    return ConfigurationFile(
        path=path,
        place=place,
        data=data,
        identity=_identity(status),
        owner=(status.st_uid, status.st_gid),
        mode=stat.S_IMODE(status.st_mode),
        attributes=attributes,
        names=status.st_nlink,
    )


def check(path: str, *, trusted: tuple[int, ...] = (0,)) -> None:
    """Refuse a file that somebody who is not trusted could exchange for another.

    The file itself may be anybody's: who owns it has a say in the engine already, and keeps it.

    Raises:
        UnsafeError: a directory or link on the way to it is others' to change.
        CdiGenError: the way to it can not be walked.
    """
    for _ in range(ownership.MAX_LINKS):
        try:
            fault = ownership.fault(parent(path), trusted=trusted)
            link = os.readlink(path) if os.path.islink(path) else None
        except OSError as error:
            raise _failed(path, error) from error
        if fault:
            raise UnsafeError(
                f"{path} is not changed: {fault}",
                hint="give it to root alone: somebody else could put another file there",
            )
        if link is None:
            return
        path = os.path.normpath(os.path.join(parent(path), link))
    raise CdiGenError(f"{path}: {os.strerror(errno.ELOOP)}")


def replace(file: ConfigurationFile, text: str | None, *, backup: bool) -> str | None:
    """Make a file that was read have this text, or be gone; return the path of a new backup.

    A backup is of the state before the first change, and is not made anew.

    Raises:
        CdiGenError: it has changed since it was read, or can not be written; it is as it was.
    """
    directory = parent(file.place)
    try:
        if file.data is None:
            make_directory(directory)
        made = None
        if backup and file.data is not None and not os.path.lexists(file.backup):
            _write(file.backup, file.data, file, instead=None)
            made = file.backup
        if text is None:
            _unchanged(file)
            os.unlink(file.place)
        else:
            _write(file.place, text.encode(), file, instead=file)
        _keep(directory)
    except OSError as error:
        raise _failed(file.path, error) from error
    return made


def remove_backup(file: ConfigurationFile) -> None:
    """Remove the backup of a file, which is as it was again."""
    with suppress(OSError):
        os.unlink(file.backup)


def _write(
    place: str, data: bytes, like: ConfigurationFile, *, instead: ConfigurationFile | None
) -> None:
    """Write a file whole: with a second name first, and that only when all of it is on the disk."""
    directory = parent(like.backup)  # not the drop-in directory: what is left by a kill is inert
    if os.stat(directory).st_dev != os.stat(parent(place)).st_dev:
        directory = parent(place)
    temporary = os.path.join(directory, f".cdi-gen-{os.urandom(8).hex()}.tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            while data:
                data = data[os.write(file, data) :]
            _like(file, like)
            os.fsync(file)
        finally:
            os.close(file)
        if instead is not None and instead.data is not None:
            _unchanged(instead)
            os.rename(temporary, place)
        else:
            # A link is never made over a file that has come into being meanwhile; a rename is.
            os.link(temporary, place, follow_symlinks=False)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _like(file: int, like: ConfigurationFile) -> None:
    """Give a new file what the old one had; without an old one all may read it."""
    if like.data is not None:
        os.fchown(file, *like.owner)
        for name, value in like.attributes:
            os.setxattr(file, name, value)
    os.fchmod(file, like.mode)


def _attributes(file: int) -> tuple[tuple[str, bytes], ...]:
    try:
        return tuple((name, os.getxattr(file, name)) for name in os.listxattr(file))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return ()
        raise


def _unchanged(file: ConfigurationFile) -> None:
    """Raise unless the file is the one that was read, with what was in it then."""
    now = read(file.path)
    if (now.place, now.identity, now.data) != (file.place, file.identity, file.data):
        raise CdiGenError(
            f"{file.path}: somebody else has changed it meanwhile; it is left as it is",
            hint="look at it, and run the command again",
        )


def _keep(directory: str) -> None:
    with suppress(OSError):  # some file systems can not; the file is in place all the same
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
        raise CdiGenError(f"{path}: not UTF-8 text (byte {error.start})") from None


def _failed(path: str, error: OSError) -> CdiGenError:
    denied = error.errno in (errno.EACCES, errno.EPERM)
    hint = "run it as root" if denied and os.geteuid() != 0 else None
    if error.errno == errno.EEXIST:
        return CdiGenError(
            f"{path}: somebody else has made it meanwhile; it is left as it is",
            hint="look at it, and run the command again",
        )
    return CdiGenError(f"{path}: {error.strerror}; it is as it was", hint=hint)
