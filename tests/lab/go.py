# SPDX-License-Identifier: Apache-2.0
"""Programs that Debian has not, built from their sources through Go's module proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.lab.cache import LabUnavailableError, cached

_SECONDS = 900


def program(
    module: str,
    version: str,
    package: str,
    *,
    variables: Mapping[str, str] | None = None,
    cgo: bool = False,
) -> Path:
    """The program of a ``package`` in a module; its name is the package's.

    Args:
        module: its path.
        version: of the module.
        package: a folder of the module.
        variables: what the linker writes into the module's variables, each named by the folder
            of its package: a program's own version, mostly.
        cgo: build with C. Symbols of a library that is opened at run time are then bound when
            they are first called (``-z lazy``), for the library may lack some of them.

    Raises:
        LabUnavailableError: Go is missing, or does not get or build it.
    """
    name = package.rpartition("/")[2]
    written = [f"-X {module}/{variable}={value}" for variable, value in (variables or {}).items()]
    flags = " ".join(("-s -w", *(("-extldflags=-Wl,-z,lazy",) if cgo else ()), *written))

    def build(folder: Path) -> None:
        source = _module(folder, module, version)
        _compile(name, source, folder / name, f"{module}/{package}", flags=flags, cgo=cgo)
        shutil.rmtree(source)

    recipe = (module, version, package, *written, *(("cgo",) if cgo else ()))
    return cached(name, " ".join(recipe), build) / name


def versions(module: str) -> list[str]:
    """The versions of a module that Go's proxy lists, oldest first.

    Raises:
        LabUnavailableError: Go is missing, or the proxy does not answer.
    """
    if not shutil.which("go"):
        raise LabUnavailableError("go is not here")
    done = subprocess.run(
        ["go", "list", "-m", "-versions", f"{module}@latest"],
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode != 0:
        raise LabUnavailableError(f"Go does not list {module}: {done.stderr.strip()[-300:]}")
    return done.stdout.split()[1:]


def compiled(text: str, name: str, module: str, version: str) -> Path:
    """A program of ours, of one file, that uses a module.

    Args:
        text: the file, of package main.
        name: of the program; with the module's version it is that of its place in the cache.
        module: the path of the module that it imports.
        version: of the module.

    Raises:
        LabUnavailableError: Go is missing, or does not get or build it.
    """

    def build(folder: Path) -> None:
        source = _module(folder, module, version)
        (source / "main.go").write_text(text)
        _compile(name, source, folder / name, ".", flags="-s -w", cgo=False)
        shutil.rmtree(source)

    return cached(f"{name}-{version}", f"{module} {text}", build) / name


def _module(folder: Path, module: str, version: str) -> Path:
    """A module of ours that needs one: by its own name, for a proxy may refuse what is only a
    package of it."""
    source = folder / "source"
    source.mkdir()
    (source / "go.mod").write_text(f"module lab\n\ngo 1.24\n\nrequire {module} {version}\n")
    return source


def _compile(name: str, source: Path, target: Path, package: str, *, flags: str, cgo: bool) -> None:
    for needed in ("go", "cc") if cgo else ("go",):
        if not shutil.which(needed):
            raise LabUnavailableError(f"{name} is built with Go, and {needed} is not here")
    environment = {**os.environ, "CGO_ENABLED": str(int(cgo)), "GOFLAGS": "-mod=mod"}
    done = subprocess.run(
        ["go", "build", "-trimpath", f"-ldflags={flags}", "-o", str(target), package],
        cwd=source,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode != 0:
        raise LabUnavailableError(f"Go does not build {name}: {done.stderr.strip()[-300:]}")
