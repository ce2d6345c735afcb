# SPDX-License-Identifier: Apache-2.0
"""Reading a driver's libraries and programs by path: names as text, and a reason for each refusal."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_base.elf import ElfError
from cdi_gen.host.driver import shared_library as reader
from tests.hook.shared_objects import MACHINES, shared_object

NEEDED = (b"libc.so.6", b"libnvidia-glcore.so.550.163.01")


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("x86_64", "x86_64"), ("i386", "x86_64"), ("aarch64", "aarch64"), ("arm", "aarch64")],
)
def test_facts_of_a_library(tmp_path: Path, machine: str, architecture: str) -> None:
    content = shared_object(b"libx.so.1", machine, needed=NEEDED, runpath=b"/a:$ORIGIN:/b/c")
    library = reader.read(written(tmp_path / "x", content))
    needed = ("libc.so.6", "libnvidia-glcore.so.550.163.01")
    assert library == reader.SharedLibrary(*MACHINES[machine][:2], "libx.so.1", needed)
    assert library.architecture == architecture
    assert reader.search_path(str(tmp_path / "x")) == ("/a", "/b/c")


def test_a_machine_that_nvidia_has_no_driver_for(tmp_path: Path) -> None:
    path = written(tmp_path / "x", shared_object(b"libx.so.1", "ia64"))
    assert reader.read(path).architecture == "ELF machine 50"


def test_a_library_need_not_have_a_name(tmp_path: Path) -> None:
    path = written(tmp_path / "x", shared_object(None))
    assert reader.read(path).soname is None


@pytest.mark.parametrize(
    "name", [b"a\nb", b"a\x1b[31m", b"\xff", "\u2028".encode(), b"\x7f", b"x" * 256]
)
@pytest.mark.parametrize("where", ["soname", "needed"])
def test_a_name_that_nobody_can_print(tmp_path: Path, name: bytes, where: str) -> None:
    soname, needed = (name, b"libc.so.6") if where == "soname" else (b"libx.so.1", name)
    content = shared_object(soname, needed=[needed])
    with pytest.raises(ElfError, match="unreadable name"):
        reader.read(written(tmp_path / "x", content))


@pytest.mark.parametrize(
    ("at", "content", "fault"),
    [
        (0, b"#!/b", "not an ELF file"),
        (4, b"\x03", "unknown ELF class"),
        (5, b"\x02", "not little-endian"),
        (32, struct.pack("<Q", 1 << 62), "truncated"),
        (32, struct.pack("<Q", 1 << 63), "truncated"),
        (16, struct.pack("<H", 2), "not a shared library"),
        (54, struct.pack("<H", 0), "program headers of another size"),
        (54, struct.pack("<H", 64), "program headers of another size"),
        (56, struct.pack("<H", 0), "without program headers"),
        (56, struct.pack("<H", 257), "without program headers"),
        (56, struct.pack("<H", 256), "truncated"),
        (64, struct.pack("<I", 0), "string table is not in the file"),
        (120, struct.pack("<I", 0), "without a dynamic section"),
    ],
)
def test_a_damaged_header(tmp_path: Path, at: int, content: bytes, fault: str) -> None:
    whole = shared_object(b"libx.so.1", needed=NEEDED)
    damaged = whole[:at] + content + whole[at + len(content) :]
    with pytest.raises((ElfError, OSError), match=fault):
        reader.read(written(tmp_path / "x", damaged))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("x", path)])
def test_what_is_no_regular_file(tmp_path: Path, make: Callable[[str], None]) -> None:
    """A FIFO would wait for a writer for ever; a link is the caller's to follow, in its root."""
    path = str(tmp_path / "x")
    make(path)
    with pytest.raises(ElfError, match="not a regular file"):
        reader.read(path)


def test_a_program_need_not_be_a_library(tmp_path: Path) -> None:
    """NVIDIA's programs are linked to a fixed address (ET_EXEC); their RUNPATH is read all the same."""
    content = bytearray(shared_object(b"libx.so.1", runpath=b"/opt/nvidia/lib"))
    struct.pack_into("<H", content, 16, 2)
    assert reader.search_path(written(tmp_path / "x", bytes(content))) == ("/opt/nvidia/lib",)


@pytest.mark.parametrize(
    ("content", "expected"), [(b"\x7fELF", True), (b"\x7fEL", False), (b"#!/bin/sh\n", False), (b"", False)]
)  # fmt: skip
def test_a_script_is_not_elf(tmp_path: Path, content: bytes, expected: bool) -> None:
    assert reader.is_elf(written(tmp_path / "x", content)) is expected
