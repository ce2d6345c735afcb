# SPDX-License-Identifier: Apache-2.0
"""cdi-gen as its users have it: the wheel in a clean environment of the distribution's Python.

An editable install finds its modules in another way, which costs 4 ms at each start.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fakehost.driver_packages import cache_directory, locked

CHECKOUT = Path(__file__).resolve().parents[2]
_PACKAGES = ("cdi_gen", "hooks", "specs/cdi_specs")
_REQUIREMENTS = CHECKOUT / "requirements/run.txt"


def environment() -> Path:
    """The environment's ``bin`` folder; created again when a source has changed."""
    folder = cache_directory() / "bench" / "environment"
    made_from = folder / "made-from"
    with locked(folder):
        if not made_from.exists() or made_from.read_text("ascii") != _digest():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            made_from.write_text(_digest(), "ascii")
    return folder / "bin"


def _digest() -> str:
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes())
    for package in _PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _make(folder: Path) -> None:
    # Without pip: the interpreter would read its files at each start.
    _run(f"{sys.base_prefix}/bin/python3", "-m", "venv", "--without-pip", str(folder))
    wheels = folder / "wheel"
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(wheels))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    install = (*pip, "--python", str(folder), "install", "--no-deps")
    _run(*install, "--require-hashes", "-r", str(_REQUIREMENTS))
    _run(*install, *map(str, wheels.iterdir()))


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
