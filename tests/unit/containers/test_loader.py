# SPDX-License-Identifier: Apache-2.0
"""What programs in a container find, by the rules of glibc's loader and of musl's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdi_gen.containers.loader import Programs, environment, programs
from cdi_gen.containers.records import Tree

NAMES = ("libcuda.so.1", "libnvidia-ml.so.1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def look(root: Path, **variables: str) -> Programs:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return programs(Tree(descriptor), variables)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("libc", "directory", "is_found"),
    [
        ("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu", True),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib64", False),
        ("usr/lib64/libc.so.6", "usr/lib64", True),
        # Red Hat's loader does not know Debian's directory.
        ("usr/lib64/libc.so.6", "usr/lib/x86_64-linux-gnu", False),
        ("lib/ld-musl-x86_64.so.1", "usr/lib", True),
        ("lib/ld-musl-x86_64.so.1", "usr/lib64", False),
        ("usr/lib64/libc.so.6", "usr/local/nvidia/lib64", False),
    ],
)
def test_directories(root: Path, libc: str, directory: str, is_found: bool) -> None:
    put(root, libc, *(f"{directory}/{name}" for name in NAMES))
    expected = f"/{directory}/libcuda.so.1" if is_found else None
    assert look(root).libraries["libcuda.so.1"] == expected


def test_variable(root: Path) -> None:
    put(root, "usr/lib64/libc.so.6", "opt/x/libcuda.so.1")
    assert look(root, LD_LIBRARY_PATH="relative:/opt/x").libraries == {
        "libcuda.so.1": "/opt/x/libcuda.so.1",
        "libnvidia-ml.so.1": None,
    }


def test_path_file_of_musl(root: Path) -> None:
    put(root, "lib/ld-musl-x86_64.so.1", "opt/x/libcuda.so.1", "etc/x")
    (root / "etc/ld-musl-x86_64.path").write_text("/lib:/usr/lib\n/opt/x\n")
    found = look(root)
    assert (found.libraries["libcuda.so.1"], found.cache) == ("/opt/x/libcuda.so.1", "musl")


@pytest.mark.parametrize(
    ("content", "state"), [(None, "absent"), (b"", "damaged"), (b"x" * 500, "damaged")]
)
def test_caches(root: Path, content: bytes | None, state: str) -> None:
    put(root, "etc/passwd")
    if content is not None:
        (root / "etc/ld.so.cache").write_bytes(content)
    assert look(root).cache == state


def test_program(root: Path) -> None:
    put(root, "usr/bin/nvidia-smi")
    assert look(root).nvidia_smi == "/usr/bin/nvidia-smi"
    assert look(root, PATH="/opt").nvidia_smi is None


def test_link_out_of_the_container_leads_nowhere(root: Path) -> None:
    (root.parent / "libcuda.so.1").touch()
    put(root, "usr/lib64/libc.so.6")
    (root / "usr/lib64/libcuda.so.1").symlink_to(f"{root.parent}/libcuda.so.1")
    assert look(root).libraries["libcuda.so.1"] is None


def test_last_variable_of_a_name_counts() -> None:
    process = {"env": ["A=1", 7, "A=2", "B"]}
    assert environment({"process": process}) == {"A": "2", "B": ""}
    assert environment({"process": {"env": "?"}}) == {}
