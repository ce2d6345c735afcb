# SPDX-License-Identifier: Apache-2.0
"""The reader of code for GPUs against NVIDIA's cuobjdump, on NVIDIA's own libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cdi_gen.compat import fatbin
from cdi_gen.images.sources import FileSource
from tests.lab.cache import cached

WHEELS = {
    "nvidia-cuda-cuobjdump": "13.5.37",
    # libnvjpeg of CUDA 13 (zstd) and of CUDA 12 (LZ4): the smallest libraries with all architectures.
    "nvidia-nvjpeg": "13.3.2.43",
    "nvidia-nvjpeg-cu12": "12.4.0.76",
}
LIBRARIES = ("libnvjpeg.so.13", "libnvjpeg.so.12")

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def unpacked() -> Path:
    """The packages of PyPI, downloaded once."""

    def build(folder: Path) -> None:
        for name, version in WHEELS.items():
            words = [
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                str(folder),
                f"{name}=={version}",
            ]
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
            if subprocess.run(command, check=False, capture_output=True, timeout=300).returncode:
                pytest.skip(f"{name} {version} cannot be downloaded")
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            wheel.unlink()

    return cached("cuda-wheels", repr(WHEELS), build)


@pytest.mark.parametrize("name", LIBRARIES)
def test_architectures_are_those_that_cuobjdump_lists(unpacked: Path, name: str) -> None:
    program = next(unpacked.rglob("bin/cuobjdump"))
    program.chmod(0o755)
    library = next(unpacked.rglob(name))
    output = subprocess.run(
        [program, "--list-elf", "--list-ptx", library], check=True, capture_output=True, text=True
    ).stdout
    cubins = set(re.findall(r"\.(sm_\w+)\.cubin$", output, re.MULTILINE))
    ptx = {f"compute_{number}" for number in re.findall(r"\.sm_(\w+)\.ptx$", output, re.MULTILINE)}
    assert len(cubins) > 8

    source = FileSource(os.open(library, os.O_RDONLY))
    code = fatbin.device_code(source, name)
    source.close()
    assert code is not None
    assert ({*code.cubins}, {*code.ptx}, code.complete) == (cubins, ptx, True)
