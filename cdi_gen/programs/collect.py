# SPDX-License-Identifier: Apache-2.0
"""Writes the files from which the programs import their modules, one for each program.

A program of its own: ``python3 -IS collect.py DIRECTORY``, run by the interpreter that will run the
programs (Python 3.9 or newer), in their directory.
"""

from __future__ import annotations
import __future__

import ast
import importlib.util
import marshal
import os
import sys

FILES = {
    "cdi_hook_modules.pyc": ("cdi_hook",),
    "cdi_shim_modules.pyc": ("cdi_runtime.shim",),
    # The prestart hook runs the hooks of a spec in its own process.
    "cdi_prestart_modules.pyc": ("cdi_runtime.prestart", "cdi_hook"),
}
"""The packages that each file has, with the modules that they import. A program does not read what
it does not need, and no file depends on another one."""
PACKAGES = ("cdi_base", "cdi_hook", "cdi_runtime")
FINDER = "cdi_base/collection.py"

_FLAGS = __future__.annotations.compiler_flag
_HEADER = importlib.util.MAGIC_NUMBER + bytes(12)
"""Of a compiled file without a source (PEP 552): flags, mtime and size are not used."""


def main(directory: str) -> None:
    """Write the files: each complete, or not at all."""
    modules = dict(entry for package in PACKAGES for entry in _in_package(directory, package))
    trees = {name: _parsed(directory, path) for name, path in modules.items()}
    bytecode = {name: _bytecode(trees[name], path) for name, path in modules.items()}
    for file, packages in FILES.items():
        collected = {name: (modules[name], bytecode[name]) for name in _needed(trees, packages)}
        finder = _parsed(directory, FINDER)
        start = f"sys.meta_path.insert(0, Collection(__file__.rpartition('/')[0], {collected!r}))"
        finder.body += ast.parse(start).body
        code = compile(finder, file, "exec", _FLAGS, dont_inherit=True, optimize=2)
        _write(f"{directory}/{file}", _HEADER + marshal.dumps(code))


def _write(path: str, content: bytes) -> None:
    directory, _, name = path.rpartition("/")
    temporary = f"{directory}/.{name}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def _needed(trees: dict[str, ast.Module], packages: tuple[str, ...]) -> list[str]:
    """Return the modules of the packages, what they import, and the packages around these."""
    needed: set[str] = set()
    pending = [name for name in trees if f"{name}.".startswith(tuple(f"{p}." for p in packages))]
    while pending:
        name = pending.pop()
        if name in trees and name not in needed:
            needed.add(name)
            pending += [name.rpartition(".")[0], *_imports(trees[name])]
    return sorted(needed)


def _in_package(directory: str, package: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    for parent, _, names in os.walk(f"{directory}/{package}"):
        for name in names:
            path = os.path.relpath(f"{parent}/{name}", directory)
            if name.endswith(".py"):
                yield path[:-3].replace("/", ".").removesuffix(".__init__"), path


def _imports(tree: ast.Module):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Yield the names of what a module imports, modules and others."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _bytecode(tree: ast.Module, path: str) -> bytes:
    return marshal.dumps(compile(tree, path, "exec", _FLAGS, dont_inherit=True, optimize=2))


def _parsed(directory: str, path: str) -> ast.Module:
    """Return a source without ``from __future__``, which would import a module; see ``_FLAGS``.

    What only type checkers see is left out too, with its imports.
    """
    with open(f"{directory}/{path}", "rb") as file:
        tree = ast.parse(file.read(), path)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return tree


if __name__ == "__main__":
    main(sys.argv[1])
