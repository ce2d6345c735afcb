# SPDX-License-Identifier: Apache-2.0
"""Links the bundle's interpreter, a static program that runs only the programs of hooks/."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tools.bundle import compiler, cpython
from tools.cache import cached, home
from tools.steps import run

PROGRAM = "cdi-gen-python"
LICENSES = "licenses"

FROZEN_MODULES = (
    *("__future__", "encodings", "encodings.aliases", "encodings.utf_8", "struct"),
    # What `_json` imports to raise an error.
    *(
        "collections",
        "copyreg",
        "enum",
        "functools",
        "json",
        "json.decoder",
        "json.encoder",
        "json.scanner",
    ),
    *(
        "keyword",
        "operator",
        "re",
        "re._casefix",
        "re._compiler",
        "re._constants",
        "re._parser",
        "reprlib",
        "types",
    ),
)
"""Modules of the standard library in the program, beside those that CPython itself freezes."""

_HERE = Path(__file__).parent
_RECIPE = (
    "interpreter.py",
    "interpreter.c",
    "c_library.c",
    "freeze.py",
    "pass_through.c",
    "pass_through.h",
)


def build(architecture: str) -> Path:
    """Return the directory with the interpreter and the licenses of what is in it.

    Raises:
        BuildError: the sources or the compiler cannot be had, or the build fails.
    """
    recipe = "\0".join((cpython.recipe(), *((_HERE / name).read_text("utf-8") for name in _RECIPE)))
    return cached(
        home() / "bundle",
        f"interpreter-{architecture}",
        recipe,
        lambda target: _build(architecture, target),
    )


def compile_modules(directory: Path) -> None:
    """Write the bytecode of all modules below a directory, for the bundle's CPython."""
    _run_native("compile_modules.py", directory)


def _run_native(script: str, *arguments: str | Path) -> str:
    """Run a script by the CPython of this machine, always in the same state.

    Which strings of a module are interned in its bytecode depends on the modules that are loaded,
    and on whether they came from bytecode themselves. So no bytecode is used, and none is left.
    """
    with tempfile.TemporaryDirectory() as empty:
        variables = {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": empty}
        python = cpython.native_python()
        return run(python, "-B", "-S", _HERE / script, *arguments, environment=variables)


def _build(architecture: str, directory: Path) -> None:
    source = cpython.sources()
    libraries = cpython.build(architecture)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        frozen = _run_native("freeze.py", source.python / "Lib", *FROZEN_MODULES)
        (work / "frozen_modules.h").write_text(frozen, "utf-8")
        tools = compiler.prepare(architecture, work, epoch=source.epoch)
        include = [f"-I{path}" for path in (work, source.python / "Include", libraries)]
        command: list[str | Path] = [tools.cc, *compiler.FLAGS, *compiler.LINK_FLAGS, *include]
        command += [_HERE / name for name in ("interpreter.c", "c_library.c", "pass_through.c")]
        command += [libraries / cpython.LIBRARY, libraries / cpython.FFI_LIBRARY]
        run(*command, "-o", directory / PROGRAM, environment=tools.environment)
        licenses = directory / LICENSES
        licenses.mkdir()
        shutil.copy(source.python / "LICENSE", licenses / "CPython")
        shutil.copy(source.libffi / "LICENSE", licenses / "libffi")
        shutil.copy(tools.musl_license, licenses / "musl")
