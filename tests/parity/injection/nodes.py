# SPDX-License-Identifier: Apache-2.0
"""Device nodes that the cases name below ``/nodes``: made somewhere, or only told of."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from cdi_gen.cdi.inject import NodeStatus

PREFIX = "/nodes/"
NODES = {
    "/nodes/char": NodeStatus("c", 1, 3, 0o660),
    "/nodes/block": NodeStatus("b", 7, 300, 0o4600),
    "/nodes/fifo": NodeStatus("p", 0, 0, 0o644),
    "/nodes/file": NodeStatus("", 0, 0, 0o644),
    "/nodes/link": NodeStatus("", 0, 0, 0o777),
}
OTHERS = ("/nodes/absent", "/nodes/file/below", "/dev/absent0")
"""Paths at which there is nothing."""

_FORMATS = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO, "": stat.S_IFREG}


def told(path: str) -> NodeStatus:
    """As `look_at`, on a machine that has these nodes."""
    if path not in NODES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return NODES[path]


def make(folder: Path) -> None:
    """Make the nodes in a folder.

    Raises:
        PermissionError: this user may not.
    """
    for path, node in NODES.items():
        place = folder / path.removeprefix(PREFIX)
        if path == "/nodes/link":
            place.symlink_to("char")
            continue
        os.mknod(place, 0o600 | _FORMATS[node.type], os.makedev(node.major, node.minor))
        place.chmod(node.mode)


def moved(document: Any, old: str, new: str) -> Any:
    """A document in which every text that has one path has the other."""
    return json.loads(json.dumps(document, ensure_ascii=False).replace(old, new))
