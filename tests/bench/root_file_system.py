# SPDX-License-Identifier: Apache-2.0
"""The root file system of a container: a small Debian's, new for every run."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.bench.contest import ENVIRONMENT, Step
from tests.lab import images


def layer(to: Path) -> None:
    """Write the one layer of the lab's Debian image as a tar file."""
    with tarfile.open(images.images()["debian"]) as archive:
        (name,) = (each for each in archive.getnames() if each.endswith(".tar"))
        found = archive.extractfile(name)
        assert found is not None
        to.write_bytes(found.read())


def untimed(script: str) -> Step:
    """A step that prepares or checks a run."""
    return {"argv": ["/bin/sh", "-ec", script], "env": ENVIRONMENT, "untimed": True}
