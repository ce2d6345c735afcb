# SPDX-License-Identifier: Apache-2.0
"""Finds paths of the host in the directory that becomes its ``/``: an image, or a package.

Images have links whose text is an absolute path: ``/usr/local`` or ``/opt`` of a host that is
updated as a whole. Followed by this process, they would lead to the machine that builds the image.
"""

from __future__ import annotations

from cdi_gen.host.roots import Root
from cdi_gen.paths import base_name, join, parent


def place(root: str, path: str) -> str:
    """Return where a path of the host is for this process; it need not exist.

    Links are followed inside of the root, except a link with the name itself.

    Raises:
        OSError: a directory has too many links, or cannot be read.
    """
    if root == "/":
        return path
    directory = Root(root).resolve(parent(path), may_be_missing=True)
    return join(root, directory, base_name(path))
