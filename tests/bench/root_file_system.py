# SPDX-License-Identifier: Apache-2.0
"""The root file system of a container: a small Debian's, new for every run."""

from __future__ import annotations

from pathlib import Path

from tests.bench.contest import ENVIRONMENT, Step
from tests.lab import archives, images


def layer(to: Path) -> None:
    """Write the one layer of the lab's Debian image as a tar file."""
    to.write_bytes(archives.layer_of(images.images()["debian"]))


def untimed(script: str) -> Step:
    """A step that prepares or checks a run."""
    return {"argv": ["/bin/sh", "-ec", script], "env": ENVIRONMENT, "untimed": True}
