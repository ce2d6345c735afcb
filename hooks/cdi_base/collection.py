# SPDX-License-Identifier: Apache-2.0
"""Imports a program's modules from one file, which takes a third of the time.

`cdi_gen.programs.collect` writes a file for each program, `cdi_hook_modules.pyc` for the hook: this
module, and the bytecode of the others. The file is replaced in one step, and the modules' own files
are not looked at: a program that starts while they are replaced has the modules of one version.
"""

from __future__ import annotations

import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class Collection:
    """Finds and loads modules, as `sys.meta_path` requires.

    Args:
        directory: the directory of the programs.
        modules: for each module the path of its source in the directory, and its bytecode.
    """

    def __init__(self, directory: str, modules: dict[str, tuple[str, bytes]]) -> None:
        self._directory = directory
        self._modules = modules

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: object = None
    ) -> ModuleSpec | None:
        """Return where a module is; None if it is not in the collection."""
        if name not in self._modules:
            return None
        path = f"{self._directory}/{self._modules[name][0]}"
        # The class is found so because `importlib.machinery` would be imported.
        spec = type(sys.__spec__)(name, self, origin=path)  # type: ignore[arg-type]
        if path.endswith("/__init__.py"):
            spec.submodule_search_locations = [path.rpartition("/")[0]]
        return spec

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None:
        """Let Python create the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        path, bytecode = self._modules[module.__name__]
        module.__file__ = f"{self._directory}/{path}"
        exec(marshal.loads(bytecode), module.__dict__)  # noqa: S102, S302  (root's file)
