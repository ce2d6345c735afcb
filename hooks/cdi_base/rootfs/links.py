# SPDX-License-Identifier: Apache-2.0
"""Makes symbolic links in an open directory, each in one step."""

from __future__ import annotations

import errno
import os

from cdi_base import files


def make(parent: int, name: str, text: str) -> bool:
    """Make a link if nothing has this name; False if something has."""
    try:
        os.symlink(text, name, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def replace(parent: int, name: str, text: str, owner: tuple[int, int] | None) -> None:
    """Replace a file, a link or an empty directory, or nothing, by a link.

    Docker creates an empty directory for a volume whose source is missing, and `docker commit`
    keeps it.

    Raises:
        OSError: EISDIR if the directory is not empty; or the file system refuses.
    """
    temporary = files.temporary_name()
    try:
        os.symlink(text, temporary, dir_fd=parent)
        if owner:
            os.chown(temporary, *owner, dir_fd=parent, follow_symlinks=False)
        try:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except IsADirectoryError as error:
            _remove_empty(parent, name, error)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        files.discard(temporary, parent)
        raise


def _remove_empty(parent: int, name: str, error: OSError) -> None:
    """Remove an empty directory; raise the given error if it is not empty."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as failure:
        raise (error if failure.errno in {errno.ENOTEMPTY, errno.EEXIST} else failure) from None
