# SPDX-License-Identifier: Apache-2.0
"""Directories of a container with many names to look at or to change, and the hook's changes."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.resolve import Resolver

MAX_KEPT = 64
"""Descriptors of directories that are open at once."""


class Folders:
    """Resolves directories; within a `with` statement, each path once.

    A kept descriptor is of the directory to which the path led when it was first used. Code that
    replaces a name that may be on such a path has to call `forget`.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolve = resolver
        self._is_keeping = False
        self._kept: dict[tuple[int, str, bool], int] = {}

    def __enter__(self) -> None:
        self._is_keeping = True

    def __exit__(self, *_fault: object) -> None:
        self._is_keeping = False
        self.forget()

    def open(self, root: int, path: str, stay: bool) -> int:
        """Return an `O_PATH` descriptor, as a resolver does; `close` takes it back."""
        key = (root, path, stay)
        descriptor = self._kept.get(key)
        if descriptor is None:
            descriptor = self._resolve(root, path, stay)
            if self._is_keeping and len(self._kept) < MAX_KEPT:
                self._kept[key] = descriptor
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a descriptor that is not kept."""
        if not self._kept or descriptor not in self._kept.values():
            os.close(descriptor)

    def forget(self) -> None:
        """Close the kept descriptors."""
        while self._kept:
            os.close(self._kept.popitem()[1])


class Changes:
    """The names that the hook has changed in a directory, and the directory's mtime before that.

    A name has the text of the link that the hook has made; None: something else may be there.
    """

    __slots__ = ("mtime", "names")

    def __init__(self, mtime: int) -> None:
        self.mtime = mtime
        self.names: dict[str, str | None] = {}
