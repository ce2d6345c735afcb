# SPDX-License-Identifier: Apache-2.0
"""cdi-gen in a node: this checkout, and the packages that the root's Python lacks.

with standalone(binds=packages.binds()) as kubernetes:
    kubernetes.node.start("plugin", *packages.CDI_GEN, "kubernetes", "device-plugin",
                          env=packages.ENVIRONMENT)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.host.looking import REPOSITORY
from tests.lab.cache import LabUnavailableError, cached

REQUIREMENTS = (
    "bcrypt==5.0.0",
    "grpcio==1.85.3",
    "h11==0.16.0",
    "nvidia-ml-py==13.615.71",
    "prometheus-client==0.26.0",
    "protobuf==7.36.2",
    "urllib3==2.8.0",
)
PYTHON = "3.13"
"""The version of the root's Python, Debian 13's."""

_SOURCES, _PACKAGES = "/opt/cdi-gen", "/opt/site-packages"

CDI_GEN = ("/usr/bin/python3", "-m", "cdi_gen")
"""The program in a node; it needs ``ENVIRONMENT``."""
ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": ":".join(
        (*(f"{_SOURCES}{folder}" for folder in ("", "/specs", "/hooks")), _PACKAGES)
    ),
    "PYTHONUNBUFFERED": "1",
}


def folder() -> Path:
    """The packages of ``REQUIREMENTS`` for the root's Python.

    Raises:
        LabUnavailableError: pip does not get them.
    """

    def build(target: Path) -> None:
        only = ("--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *only]
        done = subprocess.run(
            [*command, f"--target={target}", *REQUIREMENTS],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            reason = done.stderr.strip()[-300:]
            raise LabUnavailableError(f"pip does not install {REQUIREMENTS}: {reason}")

    return cached("node-packages", f"{PYTHON} {REQUIREMENTS}", build)


def binds() -> dict[str, Path]:
    """Return the views of this machine that ``CDI_GEN`` needs, for ``node``; see ``folder``."""
    return {_SOURCES: REPOSITORY, _PACKAGES: folder()}
