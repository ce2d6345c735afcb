# SPDX-License-Identifier: Apache-2.0
"""Paths on the host and paths in the container, and the one way from the first to the second."""

from __future__ import annotations

import re
from typing import NewType

HostPath = NewType("HostPath", str)
"""An absolute path on the host, with every symbolic link resolved inside the driver root."""

ContainerPath = NewType("ContainerPath", str)
"""An absolute path in the container."""

_SAFE_COMPONENT = re.compile(r"[A-Za-z0-9._+@=~][A-Za-z0-9._+@=~-]{0,254}", re.ASCII)


def is_safe(path: str) -> bool:
    """Whether a path found on the host may enter a spec.

    A file name is data that anybody who can write to the driver root chose. Names with control
    characters, separators of option lists (``,``, ``:``, ``::``) or a leading ``-`` would be read
    as something else by an engine, a runtime or a hook.
    """
    return all(_SAFE_COMPONENT.fullmatch(part) for part in path.split("/") if part)


def printable(path: str) -> str:
    """A name, however hostile, as text that a terminal and JSON can carry."""
    return path if path.isascii() and path.isprintable() else ascii(path)[1:-1]


def join(*parts: str) -> str:
    """Join absolute paths: ``join("/run/nvidia/driver", "/usr")``; ``/`` and ``.`` add nothing."""
    components = [each for part in parts for each in part.split("/")]
    return "/" + "/".join(each for each in components if each not in ("", "."))


def beneath(path: str, root: str) -> str | None:
    """The part of ``path`` below ``root``, compared component by component, or None."""
    if root == "/":
        return path
    if path == root:
        return "/"
    return path[len(root) :] if path.startswith(root + "/") else None


def parent(path: str) -> str:
    """The directory of an absolute path."""
    return path.rpartition("/")[0] or "/"


def base_name(path: str) -> str:
    """The last component of a path."""
    return path.rpartition("/")[2]
