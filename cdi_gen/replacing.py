# SPDX-License-Identifier: Apache-2.0
"""Writing a file whole or not at all, and directories that all can read."""

from __future__ import annotations

import os
from contextlib import suppress


def replace_file(path: str, data: bytes, *, mode: int = 0o644) -> None:
    """Make ``path`` a file with ``data`` in one step, whatever the umask.

    A symbolic link at ``path`` is replaced, not followed. Whatever fails, and when it is killed,
    the file that was there stays as it was; unless killed it leaves nothing else behind.

    Raises:
        OSError: the file system refuses.
    """
    directory, name = os.path.split(path)
    parent = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # The suffix keeps engines, which watch their directories, from reading it half-written.
    temporary = f".cdi-gen-{os.urandom(8).hex()}.tmp"
    try:
        _write_new(temporary, data, mode, parent)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        with suppress(OSError):  # some file systems cannot; the file is in place all the same
            os.fsync(parent)
    except BaseException:
        # Also on KeyboardInterrupt; after the rename there is nothing left to remove.
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise
    finally:
        os.close(parent)


def make_directory(path: str) -> None:
    """Make ``path`` and what is missing above it, mode 0755 whatever the umask.

    Raises:
        OSError: the file system refuses.
    """
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path.rstrip("/"))
    for each in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(each, 0o755)
            os.chmod(each, 0o755)  # noqa: S103 - meant: whoever starts a container reads what is in it


def _write_new(name: str, data: bytes, mode: int, parent: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        while data:
            data = data[os.write(file, data) :]
        os.fchmod(file, mode)
        os.fsync(file)
    finally:
        os.close(file)
