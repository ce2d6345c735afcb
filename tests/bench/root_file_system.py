# SPDX-License-Identifier: Apache-2.0
"""The root file system of a container: an image of the lab's zoo, new for every run."""

from __future__ import annotations

from pathlib import Path

from tests.bench.contest import ENVIRONMENT, Step
from tests.lab import archives, images

IMAGE = "cuda-base"
"""As NVIDIA's CUDA images: folders of its own for the loader, and a libcuda that is older."""

LARGE = "pytorch"
"""With 1,600 libraries more."""


def layer(to: Path, image: str = IMAGE) -> None:
    """Write the one layer of an image as a tar file."""
    to.write_bytes(archives.layer_of(images.animals()[image]))


def untimed(script: str) -> Step:
    """A step that prepares or checks a run."""
    return {"argv": ["/bin/sh", "-ec", script], "env": ENVIRONMENT, "untimed": True}
