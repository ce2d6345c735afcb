# SPDX-License-Identifier: Apache-2.0
"""Lays out the bundle: ``bin/PROGRAM`` are links to the interpreter in ``python``.

The interpreter's directory also has the launchers and the packages of hooks/.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cdi_base import nvidia
from cdi_gen.host.hook_program import PACKAGES
from cdi_gen.programs.install import LINKS, PROGRAMS
from cdi_runtime.shim.main import MODES
from tools.bundle import interpreter
from tools.tree import CHECKOUT

NAMES = (*PROGRAMS, *LINKS, *(f"{nvidia.RUNTIME}{ending}" for ending in MODES))
"""The names in ``bin``; interpreter.c has the launcher that each runs."""


def lay_out(directory: Path, architecture: str, source: Path = CHECKOUT) -> None:
    """Fill an empty directory with the bundle of an architecture.

    Args:
        directory: where.
        architecture: ``x86_64`` or ``aarch64``.
        source: the directory with ``hooks`` and the license.

    Raises:
        BuildError: the interpreter cannot be built.
    """
    built = interpreter.build(architecture)
    python, programs = directory / "python", directory / "bin"
    python.mkdir()
    programs.mkdir()
    hooks = source / "hooks"
    for package in PACKAGES:
        shutil.copytree(
            hooks / package,
            python / package,
            ignore=shutil.ignore_patterns("__pycache__", "py.typed"),
        )
    interpreter.compile_modules(python)
    for launcher in PROGRAMS:
        # The interpreter reads them; the kernel must not start them.
        (python / launcher).write_bytes((hooks / launcher).read_bytes())
    shutil.copy(built / interpreter.PROGRAM, python)
    shutil.copytree(built / interpreter.LICENSES, python / interpreter.LICENSES)
    shutil.copy(source / "LICENSE", python / interpreter.LICENSES / "cdi-gen")
    for program in dict.fromkeys(NAMES):
        (programs / program).symlink_to(f"../python/{interpreter.PROGRAM}")
