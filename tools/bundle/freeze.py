# SPDX-License-Identifier: Apache-2.0
"""Writes modules of the standard library as C: ``freeze.py LIBRARY MODULE… > frozen_modules.h``.

The bundle's own CPython runs it, because the bytecode must be of its version. Bytecode is the same
for every architecture.
"""

from __future__ import annotations

import marshal
import os
import sys


def _source(library: str, module: str) -> tuple[str, bool]:
    """Return the file of a module, and whether the module is a package."""
    path = os.path.join(library, *module.split("."))
    package = os.path.join(path, "__init__.py")
    return (package, True) if os.path.exists(package) else (f"{path}.py", False)


def main(library: str, modules: list[str]) -> None:
    """Print the table of the modules, and the bytecode of each."""
    rows = []
    for module in modules:
        path, is_package = _source(library, module)
        with open(path, "rb") as file:
            code = compile(file.read(), f"<frozen {module}>", "exec", dont_inherit=True, optimize=2)
        name = "module_" + module.replace(".", "_")
        content = ",".join(map(str, marshal.dumps(code)))
        print(f"static const unsigned char {name}[] = {{{content}}};")  # noqa: T201
        rows.append(f'    {{"{module}", {name}, sizeof {name}, {int(is_package)}}},')
    print("static const struct _frozen frozen_modules[] = {", *rows, "    {0}", "};", sep="\n")  # noqa: T201


main(sys.argv[1], sys.argv[2:])
