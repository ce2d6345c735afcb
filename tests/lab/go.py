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
        for needed in ("go", "cc") if cgo else ("go",):
            if not shutil.which(needed):
                raise LabUnavailableError(f"{name} is built with Go, and {needed} is not here")
        source = folder / "source"
        source.mkdir()
        # The module by its own name: a proxy may refuse what is only a package of it.
        (source / "go.mod").write_text(f"module lab\n\ngo 1.24\n\nrequire {module} {version}\n")
        environment = {**os.environ, "CGO_ENABLED": str(int(cgo)), "GOFLAGS": "-mod=mod"}
        command = ["go", "build", "-trimpath", f"-ldflags={flags}", "-o", str(folder / name)]
        done = subprocess.run(
            [*command, f"{module}/{package}"],
            cwd=source,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        shutil.rmtree(source)
        if done.returncode != 0:
            raise LabUnavailableError(f"Go does not build {name}: {done.stderr.strip()[-300:]}")

    return (
        cached(
            name, " ".join((module, version, package, *written, *(("cgo",) if cgo else ()))), build
        )
        / name
    )


def versions(module: str) -> list[str]:
    """The versions of a module that Go's proxy knows, oldest first.

    Raises:
        LabUnavailableError: Go is missing, or the proxy does not answer.
    """
    try:
        done = subprocess.run(
            ["go", "list", "-m", "-versions", f"{module}@latest"],
            env={**os.environ, "GO111MODULE": "on"},
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except FileNotFoundError:
        raise LabUnavailableError("go is not here") from None
    if done.returncode != 0:
        raise LabUnavailableError(f"Go does not list {module}: {done.stderr.strip()[-300:]}")
    return done.stdout.split()[1:]
