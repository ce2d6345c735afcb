# SPDX-License-Identifier: Apache-2.0
"""The root file system of a container: an image of the lab's zoo, new for every run."""

from __future__ import annotations

from pathlib import Path

from tests.bench.contest import ENVIRONMENT, Step
from tests.lab import archives, images

IMAGE = "cuda-base"
"""An image like NVIDIA's CUDA images: its own library directories, and an older libcuda."""

LARGE = "pytorch"
"""An image with 1,600 more libraries."""


def layer(to: Path, image: str = IMAGE) -> None:
    """Write the only layer of an image as a tar file."""
    to.write_bytes(archives.layer_of(images.animals()[image]))


def untimed(script: str) -> Step:
    """A step that prepares or checks a run."""
    return {"argv": ["/bin/sh", "-ec", script], "env": ENVIRONMENT, "untimed": True}
