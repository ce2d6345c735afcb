# SPDX-License-Identifier: Apache-2.0
"""Compiles CPython and libffi, of Debian's sources, as static libraries with musl."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from tools import debian
from tools.bundle import compiler
from tools.cache import cached, home
from tools.steps import BuildError, run, say

ARCHITECTURES = ("x86_64", "aarch64")
LIBRARY = "libpython3.13.a"
FFI_LIBRARY = "libffi.a"

_HERE = Path(__file__).parent
_RECIPE = ("cpython.py", "compiler.py", "fficonfig.h", "Setup.local")
_FFI_SOURCES = {
    "x86_64": ("x86", ("ffi64.c", "ffiw64.c", "unix64.S", "win64.S")),
    "aarch64": ("aarch64", ("ffi.c", "sysv.S")),
}
_CONFIGURE = (
    *("--prefix=/python", "--disable-shared", "--disable-test-modules", "--without-doc-strings"),
    *("--without-ensurepip", "--without-mimalloc", "--without-readline"),
    *("MODULE_BUILDTYPE=static", "PKG_CONFIG=false", "READELF=true", "LINKFORSHARED= "),
    # Tests that a cross build cannot run. hooks/ opens no pseudo-terminal and resolves no name.
    *("ac_cv_file__dev_ptmx=no", "ac_cv_file__dev_ptc=no", "ac_cv_buggy_getaddrinfo=no"),
)


class Sources(NamedTuple):
    """Directories with unpacked sources, and the time of their newest change."""

    python: Path
    libffi: Path
    epoch: int


def recipe() -> str:
    """Everything that the libraries depend on."""
    texts = [(_HERE / name).read_text("utf-8") for name in _RECIPE]
    return "\0".join(
        (*texts, compiler.REQUIREMENTS.read_text("utf-8"), repr(debian.pinned(debian.SOURCES)))
    )


def sources() -> Sources:
    """Return the sources, downloaded and unpacked at the first call.

    Raises:
        BuildError: they are not in the cache and cannot be downloaded.
    """
    directory = cached(home() / "bundle", "sources", repr(debian.pinned(debian.SOURCES)), _unpack)
    epoch = int((directory / "epoch").read_text("ascii"))
    return Sources(directory / "python", directory / "libffi", epoch)


def _unpack(directory: Path) -> None:
    for name, files in debian.fetch(debian.SOURCES).items():
        (description,) = (file for file in files if file.suffix == ".dsc")
        # The signature is not checked: the file is pinned by its hash.
        target = directory / name.rstrip("0123456789.")
        run("dpkg-source", "--no-check", "--extract", description, target)
    # They are a fifth of the sources, and not part of any build.
    shutil.rmtree(directory / "python" / "Lib" / "test")
    changes = directory / "python" / "debian" / "changelog"
    (directory / "epoch").write_text(
        run("dpkg-parsechangelog", "-S", "Timestamp", "-l", changes), "ascii"
    )


def build(architecture: str) -> Path:
    """Return the directory with both libraries, the header of the build, and ``python``.

    ``python`` is the whole interpreter, which a cross build and the bytecode of modules need. Only
    the directory of this machine's own architecture has it.

    Raises:
        BuildError: the sources or the compiler cannot be had, or the build fails.
    """
    if platform.machine() not in ARCHITECTURES:
        names = " or ".join(ARCHITECTURES)
        raise BuildError(
            f"the bundle is built on {names}, and this machine is {platform.machine()}"
        )
    return cached(
        home() / "bundle",
        f"cpython-{architecture}",
        recipe(),
        lambda target: _build(architecture, target),
    )


def native_python() -> Path:
    """Return the program of `build` for this machine; it runs with the library of the sources."""
    return build(platform.machine()) / "python"


def _build(architecture: str, directory: Path) -> None:
    is_native = architecture == platform.machine()
    python = None if is_native else native_python()
    source = sources()
    say(f"compiling CPython for {architecture}: some minutes")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tools = compiler.prepare(architecture, work, epoch=source.epoch)
        headers = work / "include"
        headers.mkdir()
        _make_libffi(architecture, tools, source.libffi, work)
        target = work / "build"
        (target / "Modules").mkdir(parents=True)
        setup = (_HERE / "Setup.local").read_text("utf-8")
        setup = setup.replace(
            "_ctypes/cfield.c", f"_ctypes/cfield.c -I{headers} {work}/{FFI_LIBRARY}"
        )
        (target / "Modules" / "Setup.local").write_text(setup, "utf-8")
        flags = [
            *compiler.FLAGS,
            f"-ffile-prefix-map={source.python}=.",
            f"-ffile-prefix-map={work}=.",
        ]
        host = f"{architecture}-linux-musl"
        options = [f"--host={host}", f"--build={host}"]
        if python:
            options[1] = f"--build={platform.machine()}-linux-musl"
            options.append(f"--with-build-python={python}")
        options += [f"CC={tools.cc}", f"AR={tools.ar}", f"RANLIB={tools.ranlib}", "OPT=-DNDEBUG"]
        options += [f"CFLAGS={' '.join(flags)}", f"LDFLAGS={' '.join(compiler.LINK_FLAGS)}"]
        # A relative path: the program contains the path of its sources.
        (work / "source").symlink_to(source.python)
        configure = ("../source/configure", "--quiet", *options, *_CONFIGURE)
        run(*configure, cwd=target, environment=tools.environment)
        make = ("make", "--silent", f"-j{len(os.sched_getaffinity(0))}", LIBRARY)
        run(*make, *(("python",) if is_native else ()), cwd=target, environment=tools.environment)
        for path in (target / LIBRARY, target / "pyconfig.h", work / FFI_LIBRARY):
            shutil.copy(path, directory)
        if is_native:
            shutil.copy(target / "python", directory / "python.static")
            _write_launcher(directory / "python", source.python)


def _write_launcher(path: Path, source: Path) -> None:
    path.write_text(
        f"""\
#!/bin/sh
# The program finds its library by this variable alone.
export PYTHONPATH={source}/Lib
exec "${{0%/*}}/python.static" "$@"
""",
        "utf-8",
    )
    path.chmod(0o755)


def _make_libffi(architecture: str, tools: compiler.Compiler, source: Path, work: Path) -> None:
    """Compile libffi to ``work/libffi.a``, with its headers in ``work/include``."""
    headers = work / "include"
    directory, files = _FFI_SOURCES[architecture]
    text = (source / "include" / "ffi.h.in").read_text("utf-8")
    for name, value in {
        "TARGET": architecture.upper(),
        "HAVE_LONG_DOUBLE": "1",
        "HAVE_LONG_DOUBLE_VARIANT": "0",
        "FFI_EXEC_TRAMPOLINE_TABLE": "0",
    }.items():
        text = text.replace(f"@{name}@", value)
    (headers / "ffi.h").write_text(text, "utf-8")
    shutil.copy(source / "src" / directory / "ffitarget.h", headers)
    shutil.copy(_HERE / "fficonfig.h", headers)
    include = [f"-I{path}" for path in (headers, source / "include", source / "src")]
    flags = (*compiler.FLAGS, f"-ffile-prefix-map={source}=.", "-DHAVE_CONFIG_H", *include)
    objects = []
    for name in (
        "prep_cif.c",
        "types.c",
        "closures.c",
        "tramp.c",
        *(f"{directory}/{file}" for file in files),
    ):
        objects.append(work / f"{Path(name).stem}.o")
        run(
            tools.cc,
            *flags,
            "-c",
            source / "src" / name,
            "-o",
            objects[-1],
            environment=tools.environment,
        )
    run(tools.ar, "rcs", work / FFI_LIBRARY, *objects, environment=tools.environment)
