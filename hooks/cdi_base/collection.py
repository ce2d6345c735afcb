# SPDX-License-Identifier: Apache-2.0
"""Imports the hook's modules from one file, which takes a third of the time.

`cdi_gen.programs.collect` writes the file, `cdi_hook_modules.pyc`: this module, and the bytecode of
the others. A module whose source is not the one that was compiled is imported from its own file.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class Source:
    """A module: its bytecode, and its source's path in the directory, mtime and size."""

    __slots__ = ("bytecode", "is_package", "mtime", "path", "size")

    def __init__(self, path: str, mtime: int, size: int, bytecode: bytes) -> None:
        self.path = path
        self.mtime = mtime
        self.size = size
        self.bytecode = bytecode
        self.is_package = path.endswith("/__init__.py")

    def is_unchanged(self, path: str) -> bool:
        """Whether the file is the source; with the mtime 0 it is taken to be."""
        if not self.mtime:
            return True
        status = os.stat(path)
        return (int(status.st_mtime), status.st_size) == (self.mtime, self.size)


class Collection:
    """Finds and loads modules, as `sys.meta_path` requires."""

    def __init__(self, directory: str, sources: dict[str, Source]) -> None:
        self._directory = directory
        self._sources = sources

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: object = None
    ) -> ModuleSpec | None:
        """Return where a module is; None if it is not in the collection, or was changed."""
        source = self._sources.get(name)
        if source is None:
            return None
        path = f"{self._directory}/{source.path}"
        try:
            if not source.is_unchanged(path):
                return None
        except OSError:
            return None
        # The class is found so because `importlib.machinery` would be imported.
        spec = type(sys.__spec__)(name, self, origin=path)  # type: ignore[arg-type]
        if source.is_package:
            spec.submodule_search_locations = [path.rpartition("/")[0]]
        return spec

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None:
        """Let Python create the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        source = self._sources[module.__name__]
        module.__file__ = f"{self._directory}/{source.path}"
        exec(marshal.loads(source.bytecode), module.__dict__)  # noqa: S102, S302  (root's file)
