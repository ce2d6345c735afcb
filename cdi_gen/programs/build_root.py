# SPDX-License-Identifier: Apache-2.0
"""Finds paths of the host in the directory that becomes its ``/``: an image, or a package.

Images have links whose text is an absolute path: ``/usr/local`` or ``/opt`` of a host that is
updated as a whole. Followed by this process, they would lead to the machine that builds the image.
"""

from __future__ import annotations

import errno
import os

from cdi_base.files import MAX_LINKS
from cdi_gen.paths import base_name, join, parent


def place(root: str, path: str) -> str:
    """Return where a path of the host is for this process; it need not exist.

    Links are followed inside of the root, except a link with the name itself.

    Raises:
        OSError: a directory has too many links, or cannot be read.
    """
    if root == "/":
        return path
    pending = parent(path).split("/")[::-1]
    resolved = "/"
    links = 0
    while pending:
        component = pending.pop()
        if component in {"", "."}:
            continue
        if component == "..":
            resolved = parent(resolved)
            continue
        text = _link_text(join(root, resolved, component))
        if text is None:
            resolved = join(resolved, component)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if text.startswith("/"):
            resolved = "/"
        pending += text.split("/")[::-1]
    return join(root, resolved, base_name(path))


def _link_text(path: str) -> str | None:
    """Return the text of a link; None if the path is not a link, or does not exist."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:
            raise
        return None
