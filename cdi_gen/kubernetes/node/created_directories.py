# SPDX-License-Identifier: Apache-2.0
"""Notes which directories a set-up created on the host, and removes them when they are empty.

The note is a file in the directory of the installations, one path a line, the deepest first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from cdi_base import files, trust
from cdi_gen.kubernetes.node.settings import store_directory
from cdi_gen.paths import join, parent

CREATED = "created"
MAX_BYTES = 1 << 16


def note(root: str, paths: list[str]) -> None:
    """Note the directories of these paths that do not exist and will be created.

    Raises:
        OSError: the file system refuses.
    """
    created = missing(paths)
    if created and os.path.isdir(store_directory(root)):
        write(root, [*created, *read(root)])


def missing(paths: list[str]) -> list[str]:
    """Return the directories of these paths that do not exist, the deepest first."""
    directories: list[str] = []
    for path in paths:
        while not os.path.lexists(path) and path not in directories:
            directories.append(path)
            path = parent(path)  # noqa: PLW2901
    return sorted(directories, key=len, reverse=True)


def write(root: str, paths: list[str]) -> None:
    """Write the note.

    Raises:
        OSError: the file system refuses.
    """
    lines = "".join(f"{path}\n" for path in dict.fromkeys(paths))
    files.replace_file(join(store_directory(root), CREATED), lines.encode())


def read(root: str) -> list[str]:
    """Return the directories that were created, the deepest first."""
    try:
        text = trust.read(join(store_directory(root), CREATED), MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return []
    return [path for path in text.splitlines() if path.startswith("/")]


def remove_empty(directories: Iterable[str]) -> None:
    """Remove those of the directories that are empty."""
    for directory in directories:
        with suppress(OSError):
            os.rmdir(directory)
