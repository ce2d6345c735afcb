# SPDX-License-Identifier: Apache-2.0
"""Finds paths of the host in the directory that becomes its ``/``: an image, or a package.

Images have links whose text is an absolute path: ``/usr/local`` or ``/opt`` of a host that is
updated as a whole. Followed by this process, they would lead to the machine that builds the image.
"""

from __future__ import annotations

import os

from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_gen.paths import base_name, join, parent


def require(root: str) -> None:
    """Reject a root that does not exist: its path is perhaps mistyped, or an image is not mounted.

    Raises:
        CdiGenError: the root is no directory.
    """
    if not os.path.isdir(root):
        reason = "is not a directory" if os.path.lexists(root) else "does not exist"
        raise CdiGenError(
            f"the root {root} {reason}",
            hint=f"correct --root, or mount the image there; for a new one: mkdir -p {root}",
            code="CDG-P014",
            subject=root,
        )


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
