# SPDX-License-Identifier: Apache-2.0
"""Writes ``cdi_hook_modules.pyc``, from which the hook imports its modules.

A program of its own: ``python3 -IS collect.py DIRECTORY [--unchecked]``, run by the interpreter
that will run the hook (Python 3.9 or newer), in the directory of the programs. With
``--unchecked`` the hook does not compare the modules with their sources.
"""

from __future__ import annotations
import __future__

import ast
import importlib.util
import marshal
import os
import sys

FILE = "cdi_hook_modules.pyc"
FINDER = "cdi_base/collection.py"

_FLAGS = __future__.annotations.compiler_flag
_HEADER = importlib.util.MAGIC_NUMBER + bytes(12)
"""Of a compiled file without a source (PEP 552): flags, mtime and size are not used."""


def main(directory: str, *, checked: bool) -> None:
    """Write the file: complete, or not at all."""
    arguments = {
        name: (path, *_stamp(f"{directory}/{path}", checked), _bytecode(directory, path))
        for name, path in _modules(directory)
    }
    finder = _parsed(directory, FINDER)
    start = "sys.meta_path.insert(0, Collection(__file__.rpartition('/')[0], {name: Source(*what) "
    start += f"for name, what in {arguments!r}.items()}}))"
    finder.body += ast.parse(start).body
    code = compile(finder, FILE, "exec", _FLAGS, dont_inherit=True, optimize=2)
    temporary = f"{directory}/.{FILE}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(_HEADER + marshal.dumps(code))
    os.chmod(temporary, 0o644)
    os.replace(temporary, f"{directory}/{FILE}")


def _modules(directory: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  (no typing here)
    """Yield the name of each module of the hook, and the path of its source in the directory."""
    every = dict(_in_package(directory, "cdi_hook"))
    base = dict(_in_package(directory, "cdi_base"))
    pending = list(every)
    while pending:
        imported = set(_imports(_parsed(directory, every[pending.pop()])))
        for name in sorted(imported & base.keys() - every.keys()):
            every[name] = base[name]
            pending.append(name)
    yield from sorted(every.items())


def _in_package(directory: str, package: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    for parent, _, names in os.walk(f"{directory}/{package}"):
        for name in names:
            path = os.path.relpath(f"{parent}/{name}", directory)
            if name.endswith(".py"):
                yield path[:-3].replace("/", ".").removesuffix(".__init__"), path


def _imports(tree: ast.Module):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Yield the names that a module may import, with the packages that they are in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _stamp(path: str, checked: bool) -> tuple[int, int]:
    status = os.stat(path)
    return (int(status.st_mtime), status.st_size) if checked else (0, 0)


def _bytecode(directory: str, path: str) -> bytes:
    tree = _parsed(directory, path)
    return marshal.dumps(compile(tree, path, "exec", _FLAGS, dont_inherit=True, optimize=2))


def _parsed(directory: str, path: str) -> ast.Module:
    """Return a source without ``from __future__``, which would import a module; see ``_FLAGS``."""
    with open(f"{directory}/{path}", "rb") as file:
        tree = ast.parse(file.read(), path)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    ]
    return tree


if __name__ == "__main__":
    main(sys.argv[1], checked="--unchecked" not in sys.argv)
