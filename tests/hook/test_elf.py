# SPDX-License-Identifier: Apache-2.0
"""The ELF reader returns the facts of files, and hostile files cannot delay it."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import example, given
from hypothesis import strategies as st

from cdi_base import elf
from tests.hook.shared_objects import ET_EXEC, MACHINES, note, shared_object

NVIDIA = b"NVIDIA Corporation\0"
STRINGS = 64 + 2 * 56
"""Where the strings of a 64-bit library of `shared_objects` are."""
SECTION = b".note.test"


def first_entry(content: bytearray) -> int:
    """Where the dynamic section of a 64-bit library of `shared_objects` begins."""
    (offset,) = struct.unpack_from("<Q", content, 64 + 56 + 8)
    return int(offset)


@contextmanager
def file_of(content: bytes, size: int | None = None) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        if size is not None:
            os.truncate(file.fileno(), size)
        yield file.fileno()


def read(content: bytes, size: int | None = None) -> elf.SharedLibrary | None:
    with file_of(content, size) as descriptor:
        try:
            return elf.shared_library(descriptor, dependencies=True)
        except elf.ElfError:
            return None


def soname_of(content: bytes, size: int | None = None) -> bytes | None:
    library = read(content, size)
    assert library is not None
    return library.soname


def description(content: bytes, section: bytes = SECTION) -> bytes | None:
    with file_of(content) as descriptor:
        return elf.note(descriptor, section)


class TestSharedLibrary:
    @pytest.mark.parametrize("machine", MACHINES)
    def test_machines(self, machine: str) -> None:
        library = read(shared_object(b"libone.so.1", machine, isa_needed=8))
        assert library is not None
        assert (library.bits, library.machine, library.flags) == MACHINES[machine]
        assert (library.soname, library.isa_level) == (b"libone.so.1", 3)

    @pytest.mark.parametrize("soname", [None, b"", b"libx.so.1", b"\xff\xfe", b"s" * 4095])
    def test_sonames(self, soname: bytes | None) -> None:
        assert soname_of(shared_object(soname)) == soname

    def test_name_without_an_end_is_an_error(self) -> None:
        assert read(shared_object(b"s" * 4096)) is None

    def test_the_first_of_two_names_counts(self) -> None:
        """As in glibc's ldconfig."""
        content = bytearray(shared_object(b"second", needed=(b"first",)))
        struct.pack_into("<q", content, first_entry(content), 14)
        assert soname_of(bytes(content)) == b"first"

    def test_needed_names_that_are_far_apart(self) -> None:
        content = bytearray(shared_object(None, needed=(b"near", b"")))
        first = first_entry(content)
        struct.pack_into("<Q", content, first + 16 + 8, 9000)
        struct.pack_into("<Q", content, first + 3 * 16 + 8, 9010)
        content = content.ljust(STRINGS + 9000, b"\0") + b"far\0"
        library = read(bytes(content))
        assert library is not None
        assert library.needed == (b"near", b"far")
        assert read(bytes(content)[:-1]) is None

    def test_a_needed_name_outside_the_string_table(self) -> None:
        assert read(shared_object(None, strings_size=1)) is None
        assert read(shared_object(None, strings_size=2)) is not None

    @pytest.mark.parametrize(("length", "reads"), [(255, True), (256, False)])
    def test_a_needed_name_that_no_file_can_have(self, length: int, reads: bool) -> None:
        library = read(shared_object(b"x", needed=[b"n" * length]))
        assert (library.needed if library else None) == ((b"n" * length,) if reads else None)

    @pytest.mark.parametrize(
        ("needed", "level"), [(None, 0), (0, 0), (1, 0), (2, 1), (4, 2), (7, 2), (1 << 31, 31)]
    )
    def test_the_level_that_is_needed(self, needed: int | None, level: int) -> None:
        library = read(shared_object(b"x", isa_needed=needed))
        assert library is not None
        assert library.isa_level == level

    def test_real_libraries(self) -> None:
        """Against pyelftools."""
        files = sorted(Path("/usr/lib").glob("*-linux-gnu/lib*.so.*"))[:200]
        assert files
        for path in files:
            with path.open("rb") as file:
                library = elf.shared_library(file.fileno(), dependencies=True)
                dynamic: Any = ELFFile(file).get_section_by_name(".dynamic")
                names = [tag.soname for tag in dynamic.iter_tags("DT_SONAME")]
                needed = [tag.needed.encode() for tag in dynamic.iter_tags("DT_NEEDED")]
            assert library.soname == (names[0].encode() if names else None), path
            assert library.needed == tuple(needed), path

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x7fELF",
            b"#!/bin/sh\n" * 20,
            b"GROUP ( libc.so.6 )" * 9,
            shared_object(b"x")[:63],
            shared_object(b"x", kind=ET_EXEC),
            shared_object(b"x", told_size=64),
            shared_object(b"x", strings_loaded=False),
            shared_object(b"x", strings_size=11),
            b"\x7fELF\3" + shared_object(b"x")[5:],
            b"\x7fELF\2\2" + shared_object(b"x")[6:],
        ],
    )
    def test_a_damaged_or_foreign_file_is_not_a_library(self, content: bytes) -> None:
        assert read(content) is None

    @pytest.mark.parametrize(("count", "soname"), [(256, b"x"), (257, None), (65535, None)])
    def test_more_segments_than_any_library_has(self, count: int, soname: bytes | None) -> None:
        content = bytearray(shared_object(b"x"))
        struct.pack_into("<H", content, 56, count)
        library = read(bytes(content), 8 << 20)
        assert (library and library.soname) == soname

    def test_far_into_a_file_of_eight_terabytes(self) -> None:
        """Offsets in a sparse file of 8 TiB are followed; only the needed bytes are read."""
        content = bytearray(shared_object(b"x"))
        struct.pack_into("<Q", content, 32, (8 << 40) - 100)
        assert read(bytes(content), 8 << 40) is None
        assert soname_of(shared_object(b"x"), 8 << 40) == b"x"


class TestNote:
    JSON = b'{"format":1}'

    @pytest.mark.parametrize("align", [1, 4, 8])
    @pytest.mark.parametrize("machine", ["x86_64", "i386", "aarch64"])
    def test_the_description_is_read_for_each_alignment_and_machine(
        self, align: int, machine: str
    ) -> None:
        notes = note(NVIDIA, self.JSON, align)
        assert description(shared_object(b"x", machine, notes=notes, note_align=align)) == self.JSON

    def test_notes_of_other_owners_are_ignored(self) -> None:
        notes = note(b"GNU\0", b"no") + note(b"NVIDIA\0", b"no") + note(NVIDIA, self.JSON)
        notes += note(NVIDIA, b"second")
        assert description(shared_object(b"x", notes=notes)) == self.JSON
        assert description(shared_object(b"x", notes=note(b"GNU\0", b"no"))) is None

    def test_note_of_another_section_is_ignored(self) -> None:
        content = shared_object(b"x", notes=note(NVIDIA, self.JSON))
        for name in (b".note.tes", b".note.testt", b"note.test", b".shstrtab", b""):
            assert description(content, name) is None
        assert description(shared_object(b"x")) is None

    def test_a_size_that_counts_padding_which_is_not_there(self) -> None:
        notes = struct.pack("<III", 19, 64, 1) + NVIDIA + b"\0" + self.JSON
        assert description(shared_object(b"x", notes=notes)) == self.JSON

    def test_note_larger_than_the_limit_is_ignored(self) -> None:
        fits = note(NVIDIA, b"x" * ((64 << 10) - 32))
        assert description(shared_object(b"x", notes=fits)) == b"x" * ((64 << 10) - 32)
        assert description(shared_object(b"x", notes=fits + bytes(4))) is None

    @pytest.mark.parametrize(
        "notes", [b"", b"\0" * 11, b"\xff" * 12, b"\xff" * 64, bytes(1 << 16), note(NVIDIA, b"")]
    )
    def test_damaged_note_is_ignored(self, notes: bytes) -> None:
        assert not description(shared_object(b"x", notes=notes))

    def test_note_in_a_library_of_a_real_linker(self, compiled: Callable[..., Path]) -> None:
        source = r"""
        __asm__(".pushsection .note.cuda.fwd_compatibility,\"a\",@note\n.p2align 2\n"
                ".long 1f-0f\n.long 3f-2f\n.long 1\n0:.asciz \"NVIDIA Corporation\"\n1:.p2align 2\n"
                "2:.ascii \"{\\\"Driver\\\":[550]}\"\n3:.p2align 2\n.popsection");
        """
        library = compiled("noted", source, "-shared", "-fPIC", "-nostdlib")
        with library.open("rb") as file:
            text = elf.note(file.fileno(), b".note.cuda.fwd_compatibility")
        assert text == b'{"Driver":[550]}'


class TestIsStatic:
    def test_programs(self) -> None:
        for path, static in (("/sbin/ldconfig", True), ("/bin/true", False), ("/bin/sh", False)):
            with Path(path).open("rb") as file:
                assert elf.is_static(file.fileno()) is static

    @pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n" * 9, shared_object(b"x", "i386")])
    def test_a_file_that_is_not_a_64_bit_program_is_not_static(self, content: bytes) -> None:
        with file_of(content) as descriptor:
            assert not elf.is_static(descriptor)


WORDS = st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0"])


@given(st.sampled_from(["x86_64", "i386"]), st.data())
@example("x86_64", None)
def test_damaged_file_takes_a_bounded_number_of_reads(
    machine: str, data: st.DataObject | None
) -> None:
    """Any content gives a result or an ElfError after a bounded number of reads."""
    whole = shared_object(b"lib.so.1", machine, isa_needed=4, notes=note(NVIDIA, b"{}"))
    content = bytearray(whole)
    if data:
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, len(content) - 4))
            content[at : at + 4] = data.draw(WORDS | st.binary(min_size=4, max_size=4))
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        reads.append(length)
        return pread(descriptor, length, offset)

    with file_of(bytes(content)) as descriptor, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", counted)
        with suppress(elf.ElfError):
            elf.shared_library(descriptor)
        elf.is_static(descriptor)
        assert sum(reads) <= 400 << 10
        reads.clear()
        with suppress(elf.ElfError):
            elf.shared_library(descriptor, dependencies=True)
        with suppress(elf.ElfError):
            elf.search_path(descriptor)
        assert sum(reads) <= 1400 << 10
        reads.clear()
        elf.note(descriptor, SECTION)
        assert sum(reads) <= 400 << 10
        assert len(reads) <= 4100


@given(st.binary(max_size=400))
def test_random_bytes_take_a_bounded_number_of_reads(content: bytes) -> None:
    with file_of(b"\x7fELF" + content) as descriptor:
        with suppress(elf.ElfError):
            elf.shared_library(descriptor, dependencies=True)
        with suppress(elf.ElfError):
            elf.search_path(descriptor)
        elf.note(descriptor, SECTION)
        elf.is_static(descriptor)
