# SPDX-License-Identifier: Apache-2.0
"""The engines' own programs, which read what we write: Debian's, and a containerd from its sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from cdi_gen.engines.text import toml_text
from tests.lab import debian, go
from tests.lab.cache import cached

CONTAINERD_2_3 = ("github.com/containerd/containerd/v2", "v2.3.1", "cmd/containerd")
_PACKAGES = ("containerd", "docker.io")

LOW_LEVEL = shutil.which("runc") or "runc"
"""In the place of another one, where the command is run: it would get a launcher in this machine's
/etc. What becomes of those is asked of a machine that is only told of."""


def find(suite: str, name: str) -> Path:
    """A program of a Debian suite, unpacked and not installed; or of containerd 2.3.

    Raises:
        LabUnavailableError: it is not to be had here.
    """
    if suite == "2.3":
        return go.program(*CONTAINERD_2_3)

    def build(folder: Path) -> None:
        debian.unpack(_PACKAGES, folder, suite=suite)

    folder = cached(f"programs-{suite}", repr(_PACKAGES), build)
    (path,) = folder.glob(f"*/usr/*bin/{name}")
    return path


def dump(containerd: Path, path: Path) -> dict[str, Any]:
    """What it would run with, its defaults included; and what it complains of is an error."""
    command = [str(containerd), "--config", str(path), "config", "dump"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done
    assert "level=error" not in done.stderr
    said = toml_text.parse(done.stdout)
    said.pop("imports", None)
    return said
