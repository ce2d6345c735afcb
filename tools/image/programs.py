# SPDX-License-Identifier: Apache-2.0
"""cdi-gen in the image: its pinned dependencies, cdi-gen itself, and the bundle for the host."""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from pathlib import Path

from tools.bundle import contents, interpreter
from tools.image.system import PYTHON
from tools.steps import BuildError, run
from tools.tree import CHECKOUT

REQUIREMENTS = CHECKOUT / "requirements" / "image.txt"
PACKAGES = "usr/lib/python3/dist-packages"
"""Where Debian's Python looks for packages, beside its own library."""
BUNDLE = "usr/share/cdi-gen/bundle"

_PROGRAMS = {"cdi-gen": "main", "nvidia-toolkit": "nvidia_toolkit"}
"""The programs, and the function of ``cdi_gen.__main__`` that each calls."""
_LAUNCHER = """\
#!/usr/bin/python3 -I
from cdi_gen.__main__ import {function}

{function}()
"""
_REMOVED = ("bin", "example.py", "*/tests", "*.dist-info/RECORD", "*.dist-info/direct_url.json")
_PYTHON_VERSION = PYTHON.removeprefix("python")
_GLIBC = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")


def add_dependencies(root: Path, architecture: str) -> None:
    """Install the pinned wheels for an architecture, each checked by its hash."""
    target = root / PACKAGES
    platforms = [f"--platform={name}_{architecture}" for name in _GLIBC]
    options = (
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
    )
    python = ("--implementation=cp", f"--python-version={_PYTHON_VERSION}")
    requirements = ("--require-hashes", "-r", REQUIREMENTS)
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        *options,
        *python,
        *platforms,
        *requirements,
        "--target",
        target,
    )
    _clean(target)
    # The wheel of nvidia-ml-py has no file with the license, only a comment in its module.
    license_text = root / "usr/share/doc/nvidia-ml-py/copyright"
    license_text.parent.mkdir(parents=True)
    license_text.write_text(first_comment((target / "pynvml.py").read_text("utf-8")), "utf-8")


def first_comment(source: str) -> str:
    """Return the comment at the beginning of a module, without its signs.

    Raises:
        BuildError: it is not a license.
    """
    lines = itertools.takewhile(lambda line: line.startswith("#"), source.splitlines())
    text = "\n".join(line.strip("#").removeprefix(" ").rstrip() for line in lines).strip() + "\n"
    if "Copyright" not in text or "Redistribution and use" not in text:
        raise BuildError("pynvml.py does not begin with its license")
    return text


def add_cdi_gen(root: Path, source: Path, architecture: str) -> None:
    """Install cdi-gen from ``source`` and lay out the bundle.

    Raises:
        BuildError: the wheel or the bundle cannot be built.
    """
    target = root / PACKAGES
    with tempfile.TemporaryDirectory() as wheels:
        run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", wheels, source)
        (wheel,) = Path(wheels).glob("*.whl")
        options = (
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-compile",
            "--no-index",
        )
        run(sys.executable, "-m", "pip", "install", *options, "--target", target, wheel)
    _clean(target)
    directory = root / "usr/bin"
    directory.mkdir(parents=True)
    for name, function in _PROGRAMS.items():
        (directory / name).write_text(_LAUNCHER.format(function=function), "ascii")
        (directory / name).chmod(0o755)
    bundle = root / BUNDLE
    bundle.mkdir(parents=True)
    contents.lay_out(bundle, architecture, source)
    license_text = root / "usr/share/doc/cdi-gen/copyright"
    license_text.parent.mkdir(parents=True)
    shutil.copy(source / "LICENSE", license_text)


def compile_all(root: Path) -> None:
    """Compile the library and the packages: the image is read-only where it runs."""
    for directory in (root / "usr/lib" / PYTHON, root / PACKAGES):
        if directory.is_dir():
            interpreter.compile_modules(directory)


def _clean(directory: Path) -> None:
    for pattern in _REMOVED:
        for path in [*directory.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
