# SPDX-License-Identifier: Apache-2.0
"""Notes that the engine has not read its changed configuration yet. Runs in the host's root.

A restart may fail, and a process may be killed before it. The next set-up or undo finds nothing to
change then, and would leave an engine that runs with the old handlers. The note is a file in the
directory of the installations.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cdi_base import files
from cdi_gen.kubernetes.node.settings import store_directory
from cdi_gen.paths import join

RESTART = "restart"


def change(root: str, write: Callable[[], bool]) -> bool:
    """Change the engine's configuration; return whether the engine has to be restarted.

    Args:
        root: the directory of the installation.
        write: changes the files, and returns whether one was changed.

    Raises:
        OSError: the file system refuses.
    """
    was_noted = os.path.lexists(_path(root))
    if os.path.isdir(store_directory(root)):
        files.replace_file(_path(root), b"")
    is_changed = False
    try:
        is_changed = write()
    finally:
        # After an error the undo reverts the files, and notes that again.
        if not is_changed and not was_noted:
            forget(root)
    return is_changed or was_noted


def forget(root: str) -> None:
    """Note that the engine was restarted.

    Raises:
        OSError: the file system refuses.
    """
    files.discard(_path(root))


def _path(root: str) -> str:
    return join(store_directory(root), RESTART)
