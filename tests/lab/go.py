# SPDX-License-Identifier: Apache-2.0
"""Programs that Debian has not, built from their sources through Go's module proxy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.cache import LabUnavailableError, cached

_SECONDS = 3600
"""Kubernetes' kubelet takes 500 CPU seconds, and tests may run beside its build."""


def program(
    module: str,
    version: str,
    package: str,
    *,
    name: str = "",
    variables: Mapping[str, str] | None = None,
    staging: str = "",
    also: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    own_sums: bool = False,
    cgo: bool = False,
) -> Path:
    """The program of a ``package`` in a module.

    Args:
        module: its path.
        version: of the module.
        package: a folder of the module, or nothing for the module's own.
        name: of the program; by default the package's.
        variables: what the linker writes into variables, each named by the path of its package:
            a program's own version, mostly.
        staging: the version of the modules that the module's go.mod requires as v0.0.0, because
            they are developed in its own repository.
        also: the lowest versions of other modules, where the proxy does not serve what the module
            requires.
        tags: of the build.
        own_sums: take checksums from the module's go.sum, where the checksum database does not
            serve those of its dependencies. The database has a checksum of the module itself.
        cgo: build with C. Symbols of a library that is opened at run time are then bound when
            they are first called (``-z lazy``), for the library may lack some of them.

    Raises:
        LabUnavailableError: Go is missing, or does not get or build it.
    """
    path = f"{module}/{package}".removesuffix("/")
    name = name or package.rpartition("/")[2]
    written = [f"-X {variable}={value}" for variable, value in (variables or {}).items()]
    flags = " ".join(("-s -w", *(("-extldflags=-Wl,-z,lazy",) if cgo else ()), *written))

    def build(folder: Path) -> None:
        source = _module(folder, module, version, also or {})
        if staging:
            _replace(source / "go.mod", module, version, staging)
        if own_sums:
            shutil.copyfile(sources(module, version) / "go.sum", source / "go.sum")
        _compile(name, source, folder / name, path, flags=flags, tags=tags, cgo=cgo)
        shutil.rmtree(source)

    others = tuple(f"{other} {lowest}" for other, lowest in (also or {}).items())
    options = filter(None, (staging, *others, *tags, "cgo" if cgo else ""))
    recipe = (module, version, package, *written, *options)
    return cached(name, " ".join(recipe), build) / name


def versions(module: str) -> list[str]:
    """The versions of a module that Go's proxy lists, oldest first.

    Raises:
        LabUnavailableError: Go is missing, or the proxy does not answer.
    """
    return _go("list", "-m", "-versions", f"{module}@latest").split()[1:]


def sources(module: str, version: str) -> Path:
    """The folder with the files of a module, in Go's own cache.

    Raises:
        LabUnavailableError: Go is missing, or does not get it.
    """
    return Path(json.loads(_go("mod", "download", "-json", f"{module}@{version}"))["Dir"])


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
        source = _module(folder, module, version, {})
        (source / "main.go").write_text(text)
        _compile(name, source, folder / name, ".", flags="-s -w", cgo=False)
        shutil.rmtree(source)

    return cached(f"{name}-{version}", f"{module} {text}", build) / name


def _module(folder: Path, module: str, version: str, also: Mapping[str, str]) -> Path:
    """A module of ours that needs one: by its own name, for a proxy may refuse what is only a
    package of it."""
    source = folder / "source"
    source.mkdir()
    required = "".join(f"require {name} {of}\n" for name, of in {module: version, **also}.items())
    (source / "go.mod").write_text(f"module lab\n\ngo 1.24\n\n{required}")
    return source


def _replace(go_mod: Path, module: str, version: str, staging: str) -> None:
    """Give the modules that ``module`` requires as v0.0.0 the version ``staging``."""
    downloaded = _go("mod", "download", "-json", f"{module}@{version}")
    its_own = Path(json.loads(downloaded)["GoMod"]).read_text("utf-8")
    paths = re.findall(r"^\s+(\S+) v0\.0\.0$", its_own, re.MULTILINE)
    with go_mod.open("a", encoding="utf-8") as file:
        file.writelines(f"replace {path} => {path} {staging}\n" for path in paths)


def _go(*words: str) -> str:
    """What a command of Go prints that needs no module of ours."""
    if not shutil.which("go"):
        raise LabUnavailableError("go is not here")
    done = subprocess.run(
        ["go", *words], cwd="/", check=False, capture_output=True, text=True, timeout=_SECONDS
    )
    if done.returncode != 0:
        raise LabUnavailableError(f"go {' '.join(words)} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _compile(
    name: str,
    source: Path,
    target: Path,
    package: str,
    *,
    flags: str,
    tags: Sequence[str] = (),
    cgo: bool,
) -> None:
    for needed in ("go", "cc") if cgo else ("go",):
        if not shutil.which(needed):
            raise LabUnavailableError(f"{name} is built with Go, and {needed} is not here")
    environment = {**os.environ, "CGO_ENABLED": str(int(cgo)), "GOFLAGS": "-mod=mod"}
    options = ("-trimpath", f"-ldflags={flags}", f"-tags={','.join(tags)}")
    done = subprocess.run(
        ["go", "build", *options, "-o", str(target), package],
        cwd=source,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode != 0:
        raise LabUnavailableError(f"Go does not build {name}: {done.stderr.strip()[-300:]}")
