# SPDX-License-Identifier: Apache-2.0
"""Reads regular files up to a limit, and writes files atomically.

Every file that another user may have created is read by these functions. They never block on a pipe
or a device: they open it without blocking, and reject it. They read a file up to a limit, whatever
its size is, and even if it grows.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags to open a file that may turn out to be a pipe or a terminal."""

MAX_LINKS = 40
"""The largest number of symbolic links in a path, as in the kernel (path_resolution(7))."""


class NotRegularError(OSError):
    """A directory, pipe, socket, device or symbolic link instead of a regular file."""

    def __init__(self, path: str, mode: int = 0) -> None:
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.ELOOP if stat.S_ISLNK(mode) else 0
        if number:
            super().__init__(number, os.strerror(number), path)
        else:
            super().__init__(errno.EINVAL, "not a regular file", path)


def open_regular(path: str, *, directory: int | None = None, follow: bool = False) -> int:
    """Return a descriptor of a regular file, for reading; no other kind of file is opened.

    Args:
        path: of the file.
        directory: a descriptor of the directory that a relative path begins in.
        follow: whether the file may be a symbolic link.

    Raises:
        NotRegularError: it is another kind of file, or a link that is not followed.
        OSError: it cannot be opened.
    """
    # Opening a device can have an effect: /dev/watchdog starts a timer that restarts the machine.
    mode = os.stat(path, dir_fd=directory, follow_symlinks=follow).st_mode
    if not stat.S_ISREG(mode):
        raise NotRegularError(path, mode)
    # The file may have been replaced in the meantime: open without blocking, and check again.
    descriptor = os.open(path, READ if follow else READ | os.O_NOFOLLOW, dir_fd=directory)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise NotRegularError(path, mode)


def beginning(descriptor: int, most: int) -> bytes:
    """Return the content of an open file, or its first `most` bytes."""
    content = bytearray()
    while len(content) < most:
        piece = os.read(descriptor, min(1 << 20, most - len(content)))
        if not piece:
            break
        content += piece
    return bytes(content)


def content(descriptor: int, limit: int) -> bytes:
    """Return the content of an open file.

    Raises:
        OSError: EFBIG if it is larger than `limit` bytes.
    """
    if os.fstat(descriptor).st_size <= limit:
        whole = beginning(descriptor, limit + 1)
        if len(whole) <= limit:
            return whole
    raise OSError(errno.EFBIG, f"larger than {limit} bytes")


def read(path: str, limit: int, *, directory: int | None = None, follow: bool = False) -> bytes:
    """Return the content of a regular file.

    Raises:
        NotRegularError: it is another kind of file.
        OSError: it cannot be opened or read; EFBIG if it is larger than `limit` bytes.
    """
    descriptor = open_regular(path, directory=directory, follow=follow)
    try:
        return content(descriptor, limit)
    finally:
        os.close(descriptor)


def read_beginning(path: str, most: int, *, directory: int | None = None) -> bytes:
    """Return the content of a regular file, or its first `most` bytes; symbolic links are followed.

    For files of procfs and sysfs, for which the kernel reports no size.

    Raises:
        NotRegularError: it is another kind of file.
        OSError: it cannot be opened or read.
    """
    descriptor = open_regular(path, directory=directory, follow=True)
    try:
        return beginning(descriptor, most)
    finally:
        os.close(descriptor)


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both results are of the same file, under any of its names."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def make_directory(path: str) -> None:
    """Create a directory and its missing parents, with mode 0755 whatever the umask.

    Raises:
        OSError: the file system refuses.
    """
    missing: list[str] = []
    while path and not _exists(path):  # no recursion: a path may have 2000 components
        missing.append(path)
        path = path.rstrip("/").rpartition("/")[0]
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o755)
            os.chmod(directory, 0o755)  # noqa: S103  (engines of other users read the files in it)
        except FileExistsError:
            # Another process has created it, or it is a broken link: then the next step fails.
            continue


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def temporary_name() -> str:
    """Return an unguessable name that engines do not read as a spec."""
    return f".cdi-gen-{os.urandom(8).hex()}.tmp"


def is_temporary_name(name: str) -> bool:
    """Whether `temporary_name` may have returned this name."""
    digits = name.removeprefix(".cdi-gen-").removesuffix(".tmp")
    return len(name) == 29 and len(digits) == 16 and set(digits) <= set("0123456789abcdef")


def replace(
    name: str,
    content: bytes,
    *,
    directory: int,
    durable: bool,
    mode: int = 0o644,
    owner: tuple[int, int] | None = None,
    temporary: str = "",
) -> None:
    """Make `name` a file with this content in one step, whatever the umask.

    A symbolic link of that name is replaced, not followed. After an error the old file is unchanged
    and no other file is left behind; only a process that is killed leaves a temporary file.

    Args:
        name: the name of the file in the directory.
        content: the content of the file.
        directory: a descriptor of the directory.
        durable: whether the file must be complete on the disk if the machine crashes after this
            call, as a spec or an engine's configuration must be. A file of a container that is
            being created need not be: the container does not survive the crash.
        mode: the permissions of the file.
        owner: user and group; None: those of this process.
        temporary: the name of the temporary file, which must not exist; empty: a random name. A
            caller that is the only writer can find the file of a killed process by its name.

    Raises:
        OSError: the file system refuses.
    """
    temporary = temporary or temporary_name()
    try:
        write_new(temporary, content, directory=directory, durable=durable, mode=mode, owner=owner)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        if durable:
            synchronize(directory)
    except FileExistsError:
        # The temporary name was taken: that file is not ours.
        raise
    except BaseException:
        # Also on a signal; after the rename there is nothing left to remove.
        discard(temporary, directory)
        raise


def replace_file(path: str, content: bytes, *, mode: int = 0o644, temporary: str = "") -> None:
    """Make `path` a durable file with this content in one step, as `replace` does.

    A character device or a pipe gets the content and stays: root may name /dev/null. A symbolic
    link to a file, to a directory or to nothing is replaced. `temporary` is as for `replace`.

    Raises:
        NotRegularError: the path is, or leads to, another kind of file, which is not replaced.
        OSError: the file system refuses.
    """
    if _is_stream(path):
        # Without waiting for a reader of a pipe.
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | READ)
        try:
            os.set_blocking(descriptor, True)
            write_all(descriptor, content)
        finally:
            os.close(descriptor)
        return
    above, slash, name = path.rpartition("/")
    directory = os.open(above or slash or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        replace(name, content, directory=directory, durable=True, mode=mode, temporary=temporary)
    finally:
        os.close(directory)


def _is_stream(path: str) -> bool:
    """Whether the path is a character device or a pipe; no other special file may be replaced."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(mode):
        if _is_link_to_descriptor(path):
            raise NotRegularError(path)
        try:
            target = os.stat(path).st_mode
        except OSError:
            return False
        # Not followed: another user may have made the link, to a disk for example.
        if not (stat.S_ISREG(target) or stat.S_ISDIR(target)):
            raise NotRegularError(path)
        return False
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return False
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    raise NotRegularError(path)


def _is_link_to_descriptor(path: str) -> bool:
    """Whether a symbolic link leads to a file that a process has open: /dev/stdout, /dev/fd/3.

    If the process has a regular file open, the link seems to be a link to that file.
    """
    location = path
    try:
        procfs = os.stat("/proc/self").st_dev
        for _ in range(MAX_LINKS):
            status = os.lstat(location)
            if not stat.S_ISLNK(status.st_mode):
                return False
            if status.st_dev == procfs:
                return True
            target = os.readlink(location)
            above, slash, _ = location.rpartition("/")
            location = target if target.startswith("/") else f"{above}{slash}{target}"
    except OSError:
        pass  # no procfs, or a link to nothing
    return False


def write_new(
    path: str,
    content: bytes,
    *,
    directory: int | None = None,
    durable: bool = False,
    mode: int = 0o644,
    owner: tuple[int, int] | None = None,
    prepare: Callable[[int], object] | None = None,
) -> None:
    """Create a file with this content; after an error the file does not exist.

    Args:
        path: the path of the new file, which must not exist; a symbolic link is not followed.
        content: the content of the file.
        directory: a descriptor of the directory that a relative path begins in.
        durable: see `replace`.
        mode: the permissions, which the file gets when it is complete.
        owner: user and group; None: those of this process.
        prepare: sets further attributes of the file, through its descriptor.

    Raises:
        OSError: the file system refuses; EEXIST: the file exists.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600, dir_fd=directory)
    try:
        try:
            write_all(descriptor, content)
            if owner is not None:
                os.fchown(descriptor, *owner)
            if prepare is not None:
                prepare(descriptor)
            os.fchmod(descriptor, mode)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        discard(path, directory)
        raise


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of the content, in as many pieces as the kernel takes.

    Raises:
        OSError: the file system refuses.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def synchronize(directory: int) -> None:
    """Write the names in a directory to the disk, if the file system supports it."""
    try:
        os.fsync(directory)
    except OSError:
        # The files are in place anyway.
        return


def discard(path: str, directory: int | None = None) -> None:
    """Remove a temporary file, if it exists; it may not, when a signal interrupted the writer."""
    try:
        os.unlink(path, dir_fd=directory)
    except FileNotFoundError:
        return
