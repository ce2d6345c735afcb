# SPDX-License-Identifier: Apache-2.0
"""Compiles modules to bytecode: ``compile_modules.py DIRECTORY``, run by the bundle's CPython.

The bytecode is used without a look at the modules' time stamps, which a copy may change. It names
the modules by their paths below the directory, so that the same modules give the same files.
"""

from __future__ import annotations

import os
import py_compile
import sys


def main(directory: str) -> None:
    """Compile each module below the directory."""
    for parent, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(parent, name)
                compiled = f"{name[:-3]}.{sys.implementation.cache_tag}.pyc"
                py_compile.compile(
                    path,
                    cfile=os.path.join(parent, "__pycache__", compiled),
                    dfile=os.path.relpath(path, directory),
                    doraise=True,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )


main(sys.argv[1])
