# SPDX-License-Identifier: Apache-2.0
"""Notes which directories a set-up created on the host, and removes them when they are empty.

The note is a file in the directory of the installations, one path a line, the deepest first.

A process may be killed at any time, and a directory without a note would stay for ever. So a
directory is created under a temporary name, with the note in it, and renamed. When it is removed,
the note gets a temporary name beside the topmost directory, and is removed last. `discard_partial`
completes or discards what a killed process began.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress

from cdi_base import files, trust
from cdi_gen.kubernetes.node.settings import store_directory
from cdi_gen.paths import join, missing_directories, parent

CREATED = "created"
MAX_BYTES = 1 << 16

_PARTIAL = re.compile(r"\.cdi-gen-[0-9a-f]{16}\.tmp\.partial")


def make(directory: str, note_name: str, first_line: str = "") -> None:
    """Create a directory and its missing parents, with a note of all of them in it, in one step.

    Args:
        directory: it does not exist.
        note_name: the name of the note in the directory.
        first_line: a line of the note before the directories.

    Raises:
        OSError: the file system refuses; ENOTEMPTY: another process has created the directory.
    """
    created = missing_directories([directory], os.path.lexists)
    if not created:
        raise FileExistsError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), directory)
    top = created[-1]
    partial = _partial_beside(top)
    try:
        new = partial + directory[len(top) :]
        files.make_directory(new)
        lines = [first_line] * bool(first_line) + created
        content = "".join(f"{line}\n" for line in lines).encode()
        files.write_new(join(new, note_name), content, durable=True)
        os.rename(partial, top)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove(note_path: str, directories: list[str]) -> None:
    """Remove the file or directory that has a note, and the directories of the note.

    Args:
        note_path: a file, or a directory with the file `created`.
        directories: the directories, the deepest first; those that are not empty stay.

    Raises:
        OSError: the file system refuses.
    """
    above = [path for path in directories if note_path.startswith(f"{path}/")]
    partial = _partial_beside(min((*above, note_path), key=len))
    try:
        os.rename(note_path, partial)
    except OSError as error:
        if error.errno != errno.EXDEV:  # a file system that was mounted since
            raise
        _discard(note_path)
        remove_empty(directories)
    else:
        remove_empty(directories)
        _discard(partial)


def discard_partial(path: str) -> list[str]:
    """Complete or discard what a killed process began for a path.

    Returns:
        The directories above the path that the process had created and would have removed.

    Raises:
        OSError: the file system refuses.
    """
    start, created = path, []
    while path != "/":
        path = parent(path)
        if not os.path.isdir(path) or trust.fault(path) is not None:
            continue  # another user could have put there what has such a name
        for name in _names(path):
            if not _PARTIAL.fullmatch(name):
                continue
            partial = join(path, name)
            with suppress(FileNotFoundError):  # the process goes on
                if os.lstat(partial).st_uid == os.geteuid():
                    is_directory = stat.S_ISDIR(os.lstat(partial).st_mode)
                    noted = _listed(join(partial, CREATED) if is_directory else partial)
                    created += [folder for folder in noted if start.startswith(f"{folder}/")]
                    remove_empty(noted)
                    _discard(partial)
    return created


def _partial_beside(path: str) -> str:
    return join(parent(path), f"{files.temporary_name()}.partial")


def _discard(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def note(root: str, paths: list[str]) -> None:
    """Note the directories of these paths that do not exist and will be created.

    Raises:
        OSError: the file system refuses.
    """
    created = missing_directories(paths, os.path.lexists)
    if created and os.path.isdir(store_directory(root)):
        write(root, [*created, *read(root)])


def write(root: str, paths: list[str]) -> None:
    """Write the note.

    Raises:
        OSError: the file system refuses.
    """
    lines = "".join(f"{path}\n" for path in dict.fromkeys(paths))
    files.replace_file(join(store_directory(root), CREATED), lines.encode())


def read(root: str) -> list[str]:
    """Return the directories that were created, the deepest first."""
    return _listed(join(store_directory(root), CREATED))


def _listed(note_path: str) -> list[str]:
    try:
        text = trust.read(note_path, MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return []
    return [path for path in text.splitlines() if path.startswith("/")]


def remove_empty(directories: Iterable[str]) -> None:
    """Remove those of the directories that are empty."""
    for directory in directories:
        with suppress(OSError):
            os.rmdir(directory)
