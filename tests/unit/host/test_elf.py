# SPDX-License-Identifier: Apache-2.0
"""The reader of shared libraries: what it reads, and that no bytes get it into trouble."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_gen.host import elf
from tests.property import strategies  # noqa: F401 - loads the profile
from tests.unit.host.elf_files import shared_library

NEEDED = (b"libc.so.6", b"libnvidia-glcore.so.550.163.01")


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("machine", [62, 183])
@pytest.mark.parametrize("bits", [32, 64])
def test_reads_what_was_made(tmp_path: Path, bits: int, machine: int) -> None:
    content = shared_library(bits=bits, machine=machine, needed=NEEDED, runpath=b"/a:$ORIGIN:/b/c")
    found = elf.read(written(tmp_path / "x", content))
    needed = tuple(name.decode() for name in NEEDED)
    assert found == elf.SharedLibrary(bits, machine, "libx.so.1", needed, ("/a", "/b/c"))
    assert found.architecture == {62: "x86_64", 183: "aarch64"}[machine]


def test_a_machine_that_nvidia_has_no_driver_for(tmp_path: Path) -> None:
    path = written(tmp_path / "x", shared_library(machine=243))
    assert elf.read(path).architecture == "ELF machine 243"


def test_a_library_need_not_have_a_name(tmp_path: Path) -> None:
    path = written(tmp_path / "x", shared_library(soname=None))
    assert elf.read(path).soname is None


@pytest.mark.parametrize(
    "name", [b"a\nb", b"a\x1b[31m", b"\xff", "\u2028".encode(), b"\x7f", b"x" * 256]
)
@pytest.mark.parametrize("where", ["soname", "needed"])
def test_a_name_that_nobody_can_print(tmp_path: Path, name: bytes, where: str) -> None:
    content = shared_library(**{where: name if where == "soname" else (name,)})  # type: ignore[arg-type]
    with pytest.raises(elf.ElfError, match="unreadable name"):
        elf.read(written(tmp_path / "x", content))


@pytest.mark.parametrize(
    ("at", "content", "fault"),
    [
        (0, b"#!/b", "not an ELF file"),
        (4, b"\x03", "unknown ELF class"),
        (5, b"\x02", "not little-endian"),
        (32, struct.pack("<Q", 1 << 62), "truncated"),
        (32, struct.pack("<Q", 1 << 63), "truncated"),
        (54, struct.pack("<H", 0), "without program headers"),
        (54, struct.pack("<H", 1), "truncated"),
        (56, struct.pack("<H", 0), "without program headers"),
        (56, struct.pack("<H", 0xFFFF), "without program headers"),
        (64, struct.pack("<I", 0), "string table is not in the file"),
        (120, struct.pack("<I", 0), "without a dynamic section"),
    ],
)
def test_a_damaged_header(tmp_path: Path, at: int, content: bytes, fault: str) -> None:
    whole = shared_library(needed=NEEDED)
    damaged = whole[:at] + content + whole[at + len(content) :]
    with pytest.raises((elf.ElfError, OSError), match=fault):
        elf.read(written(tmp_path / "x", damaged))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("x", path)])
def test_what_is_no_regular_file(tmp_path: Path, make: object) -> None:
    """A FIFO would wait for a writer for ever; a link is the caller's to follow, in its root."""
    path = str(tmp_path / "x")
    make(path)  # type: ignore[operator]
    with pytest.raises(elf.ElfError, match="not a regular file"):
        elf.read(path)


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    """Made ones, and the smallest real ones of this machine."""
    made = [shared_library(bits=bits, needed=NEEDED) for bits in (32, 64)]
    folders = [Path(f"/usr/lib/{os.uname().machine}-linux-gnu"), Path("/usr/lib64"), Path("/lib")]
    real = sorted(
        (path for folder in folders if folder.is_dir() for path in folder.glob("*.so.*")),
        key=lambda path: path.stat().st_size,
    )
    return Seeds(made + [path.read_bytes()[: 1 << 16] for path in real[:3]])


class Seeds(list[bytes]):
    """A list that Hypothesis need not print."""

    def __repr__(self) -> str:
        return f"<{len(self)} libraries>"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf") / "library"


EDGES = [
    *(0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**62, 2**63 - 1, 2**63, 2**64 - 1),
]


@given(
    which=st.integers(0, 4),
    changes=st.lists(
        st.tuples(
            # Headers and the dynamic section decide; they are at the start of small libraries.
            st.integers(0, 700) | st.integers(0, 1 << 16),
            st.sampled_from(EDGES).map(lambda number: number.to_bytes(8, "little"))
            | st.binary(min_size=1, max_size=8),
        ),
        max_size=6,
    ),
    cut=st.none() | st.integers(0, 2000),
)
def test_no_bytes_get_it_into_trouble(
    seeds: list[bytes],
    scratch: Path,
    which: int,
    changes: list[tuple[int, bytes]],
    cut: int | None,
) -> None:
    """An ElfError, an OSError of the system's, or an answer of printable names: nothing else."""
    content = bytearray(seeds[which % len(seeds)])
    for at, new in changes:
        start = at % len(content)
        content[start : start + len(new)] = new
    scratch.write_bytes(content[:cut])
    try:
        found = elf.read(str(scratch))
    except (elf.ElfError, OSError):
        return
    for name in (found.soname or "", *found.needed):
        assert name.isascii()
        assert name == "" or name.isprintable()
        assert len(name) <= elf.MAX_NAME_BYTES
