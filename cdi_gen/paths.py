# SPDX-License-Identifier: Apache-2.0
"""Path types for the host and the container, and pure functions on path strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NewType

HostPath = NewType("HostPath", str)
"""An absolute path on the host, with every symbolic link resolved inside the driver root."""

ContainerPath = NewType("ContainerPath", str)
"""An absolute path in the container."""

_SAFE_COMPONENT = re.compile(r"[A-Za-z0-9._+@=~][A-Za-z0-9._+@=~-]{0,254}", re.ASCII)


def is_safe(path: str) -> bool:
    """Whether a path of the host may be written to a spec.

    Any user with write permission in the driver root can choose a file name. An engine, a runtime
    or a hook would misread names with control characters, separators of option lists (``,``, ``:``,
    ``::``) or a leading ``-``.
    """
    return all(_SAFE_COMPONENT.fullmatch(part) for part in path.split("/") if part)


def printable(path: str) -> str:
    """A path with everything except printable ASCII escaped, for terminals and JSON."""
    return path if path.isascii() and path.isprintable() else ascii(path)[1:-1]


def join(*parts: str) -> str:
    """Join absolute paths: ``join("/run/nvidia/driver", "/usr")``; ``/`` and ``.`` add nothing."""
    components = [component for part in parts for component in part.split("/")]
    return "/" + "/".join(name for name in components if name not in ("", "."))


def beneath(path: str, root: str) -> str | None:
    """The path below ``root``, starting with ``/``; None if ``path`` is not below ``root``."""
    if root == "/":
        return path
    if path == root:
        return "/"
    return path[len(root) :] if path.startswith(root + "/") else None


def parent(path: str) -> str:
    """The directory of an absolute path."""
    return path.rpartition("/")[0] or "/"


def missing_directories(paths: Iterable[str], exists: Callable[[str], bool]) -> list[str]:
    """The paths and the directories above them that do not exist, the deepest first.

    Args:
        paths: absolute paths.
        exists: whether something has a path.
    """
    missing: dict[str, None] = {}
    for path in paths:
        while path not in missing and path != "/" and not exists(path):
            missing[path] = None
            path = parent(path)  # noqa: PLW2901
    return sorted(missing, key=lambda path: path.count("/"), reverse=True)


def base_name(path: str) -> str:
    """The last component of a path."""
    return path.rpartition("/")[2]
