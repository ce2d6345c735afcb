# SPDX-License-Identifier: Apache-2.0
"""Images that make their loader find the compat libcuda on every host."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from cdi_gen.compat.image_facts import read_facts
from tests.unit.images import layered

COMPAT: list[layered.Member] = [
    ("usr/local/cuda", "cuda-12.4", tarfile.SYMTYPE),
    ("usr/local/cuda-12.4/compat/libcuda.so.1", "libcuda.so.550.54.15", tarfile.SYMTYPE),
    ("usr/local/cuda-12.4/compat/libcuda.so.550.54.15", b"no ELF file", tarfile.REGTYPE),
    ("usr/local/cuda-12.4/lib64/stubs/libcuda.so.1", b"no ELF file", tarfile.REGTYPE),
]
FILE = "/etc/ld.so.conf.d/00-compat.conf"


def setting(path: Path, file: bytes = b"", members: list[layered.Member] = COMPAT) -> str:
    """The fact of an image with these files, and a file in /etc/ld.so.conf.d."""
    more: list[layered.Member] = [(FILE.lstrip("/"), file, tarfile.REGTYPE)] if file else []
    archive = layered.docker_archive(path / "image.tar", [layered.layer([*members, *more])])
    return read_facts(str(archive)).compat_setting


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/usr/local/cuda/compat", "LD_LIBRARY_PATH"),
        ("/opt/lib:/usr/local/cuda-12.4/compat:", "LD_LIBRARY_PATH"),
        ("/usr/local/nvidia/lib:/usr/local/nvidia/lib64", ""),
        # NVIDIA's framework images: their entrypoint makes the link on hosts that need it.
        ("/usr/local/cuda/compat/lib:/usr/local/nvidia/lib64", ""),
        ("compat", ""),
        # Stubs are another fault: no host runs a program with them.
        ("/usr/local/cuda/lib64/stubs", ""),
    ],
)
def test_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setitem(layered.ENVIRONMENT, "LD_LIBRARY_PATH", value)
    assert setting(tmp_path) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"/usr/local/cuda-12.4/compat\n", FILE),
        (b"# comment\n/opt/lib\n /usr/local/cuda/compat # last", FILE),
        (b"#/usr/local/cuda/compat\n", ""),
        (b"/usr/local/cuda/lib64\n\xff\n", ""),
        (b"/usr/local/cuda/compat\n" + b"#" * (64 << 10), ""),
    ],
)
def test_a_file_of_the_loader(tmp_path: Path, content: bytes, expected: str) -> None:
    assert setting(tmp_path, content) == expected


def test_an_image_without_the_library(tmp_path: Path) -> None:
    assert setting(tmp_path, b"/usr/local/cuda/compat\n", members=[]) == ""


def test_an_image_that_leaves_it_to_the_hook(tmp_path: Path) -> None:
    assert setting(tmp_path) == ""
