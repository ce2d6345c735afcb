# SPDX-License-Identifier: Apache-2.0
"""What an ELF file of the image says of itself, read through a descriptor within bounds.

Only little-endian files of 32 or 64 bits are understood, which is all that an NVIDIA driver has.
What is damaged, truncated or built to be slow is None, never an exception; `OSError` means that
the file cannot be read. At most 0.4 MiB is read of a file, wherever in it its offsets lead.
Layout: System V ABI, chapters 4 and 5; the x86-64 psABI for the property.
"""

from __future__ import annotations

import os
import struct

MAX_PROGRAM_HEADERS = 512
MAX_SECTION_HEADERS = 4096
MAX_DYNAMIC = 64 << 10
MAX_NOTE = 64 << 10
MAX_NAME = 4096

OWNER = b"NVIDIA Corporation"

EM_386, EM_ARM, EM_X86_64, EM_AARCH64 = 3, 40, 62, 183

_ET_DYN = 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_GNU_PROPERTY = 1, 2, 3, 0x6474E553
_SHT_NOTE = 7
_DT_NULL, _DT_STRTAB, _DT_SONAME = 0, 5, 14
_NT_GNU_PROPERTY_TYPE_0 = 5
_X86_ISA_1_NEEDED = 0xC0008002

_HEAD = 4096
"""Read at once: the header, and in all but odd files the program headers behind it."""

_LAST_OFFSET = 1 << 62


class _Class:
    """Where the fields of one ELF class are, as `struct` formats and tuple positions."""

    __slots__ = ("bits", "dynamic", "header", "program", "section")

    def __init__(self, bits: int, header: str, program: str, section: str, dynamic: str) -> None:
        self.bits = bits
        # phoff, shoff, flags, phnum, shentsize, shnum, shstrndx
        self.header = struct.Struct(header)
        # type, offset, vaddr, filesz, align
        self.program = struct.Struct(program)
        # name, type, offset, size, addralign
        self.section = struct.Struct(section)
        self.dynamic = struct.Struct(dynamic)


_CLASSES = {
    1: _Class(32, "<28xIII4xHHHH", "<IIIxxxxIxxxxxxxxI", "<II8xII8xI4x", "<iI"),
    2: _Class(64, "<32xQQI4xHHHH", "<IxxxxQQ8xQ8xQ", "<II16xQQ8xQ8x", "<qQ"),
}


class SharedLibrary:
    """A shared library: `bits`, `machine`, the header's `flags`, and `soname`, None if it has none.

    `isa_level` is the x86 level that it says it needs: 0 for the base line, 1 for x86-64-v2.
    """

    __slots__ = ("bits", "flags", "isa_level", "machine", "soname")

    def __init__(self, bits: int, machine: int, flags: int, soname: bytes | None, isa: int) -> None:
        self.bits = bits
        self.machine = machine
        self.flags = flags
        self.soname = soname
        self.isa_level = isa


def shared_library(descriptor: int) -> SharedLibrary | None:
    """What a loader could load, or None if it is something else.

    Args:
        descriptor: a regular file, open for reading.
    """
    head = _read(descriptor, 0, _HEAD)
    kind = _class_of(head)
    # Shorter files have no room for the header of either class: glibc does not look at them.
    if kind is None or len(head) < 64:
        return None
    file_type, machine = struct.unpack_from("<HH", head, 16)
    flags = kind.header.unpack_from(head)[2]
    programs = _programs(descriptor, head, kind)
    if file_type != _ET_DYN or programs is None:
        return None
    dynamic = (0, 0)
    properties = (0, 0, 0)
    for segment_kind, offset, _, length, align in programs:
        if segment_kind == _PT_DYNAMIC:
            dynamic = (offset, min(length, MAX_DYNAMIC))
        elif segment_kind == _PT_GNU_PROPERTY and align * 8 == kind.bits:
            properties = (offset, min(length, MAX_NOTE), align)
    isa_level = _isa_level(_read(descriptor, *properties[:2]), properties[2])
    strings = name = None
    section = _read(descriptor, *dynamic)
    whole = len(section) - len(section) % kind.dynamic.size
    for tag, value in kind.dynamic.iter_unpack(section[:whole]):
        if tag == _DT_NULL:
            break
        if tag == _DT_STRTAB and strings is None:
            strings = value
        elif tag == _DT_SONAME and name is None:
            name = value
    if strings is None:
        return None
    soname = None
    if name is not None:
        text = _read(descriptor, _file_offset(programs, strings) + name, MAX_NAME)
        soname = text.partition(b"\0")[0]
        if not text or len(soname) == MAX_NAME:
            return None
    return SharedLibrary(kind.bits, machine, flags, soname, isa_level)


def note(descriptor: int, section: bytes) -> bytes | None:
    """The description of NVIDIA's first note in the note section of this name; None without one.

    NUL bytes around it are taken off.

    Args:
        descriptor: a regular file, open for reading.
        section: the name, such as `.note.cuda.fwd_compatibility`.
    """
    head = _read(descriptor, 0, 64)
    kind = _class_of(head)
    if kind is None or len(head) < kind.header.size:
        return None
    _, table_offset, _, _, entry_size, count, names = kind.header.unpack_from(head)
    if entry_size != kind.section.size or not names < count <= MAX_SECTION_HEADERS:
        return None
    table = _read(descriptor, table_offset, entry_size * count)
    if len(table) != entry_size * count:
        return None
    sections = list(kind.section.iter_unpack(table))
    for name, section_kind, offset, size, align in sections:
        if section_kind != _SHT_NOTE:
            continue
        if _read(descriptor, sections[names][2] + name, len(section) + 1) == section + b"\0":
            if size > MAX_NOTE:
                return None
            return _description(_read(descriptor, offset, size), align)
    return None


def is_static(descriptor: int) -> bool:
    """Whether the file is a 64-bit program, or a library, that asks for no interpreter."""
    head = _read(descriptor, 0, _HEAD)
    kind = _class_of(head)
    if kind is None or kind.bits != 64 or len(head) < 64:
        return False
    programs = _programs(descriptor, head, kind)
    return bool(programs) and all(program[0] != _PT_INTERP for program in programs or ())


def _class_of(head: bytes) -> _Class | None:
    if head[:4] != b"\x7fELF" or head[5:6] != b"\1":
        return None
    return _CLASSES.get(head[4])


def _programs(
    descriptor: int, head: bytes, kind: _Class
) -> list[tuple[int, int, int, int, int]] | None:
    """Type, offset, address, size in the file and alignment of each segment."""
    offset, _, _, count, *_ = kind.header.unpack_from(head)
    size = kind.program.size * count
    if count > MAX_PROGRAM_HEADERS:
        return None
    table = head[offset : offset + size] if offset + size <= _HEAD else b""
    if len(table) != size:
        table = _read(descriptor, offset, size)
    if len(table) != size:
        return None
    return list(kind.program.iter_unpack(table))


def _file_offset(programs: list[tuple[int, int, int, int, int]], address: int) -> int:
    """Where in the file an address of the loaded library is."""
    for segment_kind, offset, start, size, _ in programs:
        if segment_kind == _PT_LOAD and start <= address < start + size:
            return address - start + offset
    return address


def _isa_level(notes: bytes, align: int) -> int:
    """The x86 level in the notes of a PT_GNU_PROPERTY segment; 0 if they have none."""
    at = 0
    while at + 12 < len(notes):
        name_size, size, note_kind = struct.unpack_from("<III", notes, at)
        if (name_size, note_kind) == (4, _NT_GNU_PROPERTY_TYPE_0) and notes[at + 12 :][
            :3
        ] == b"GNU":
            return _needed(notes[at + 16 : at + 16 + size], align)
        at += _up(_up(12 + name_size, align) + size, align)
    return 0


def _needed(properties: bytes, align: int) -> int:
    at = last = 0
    while at + 8 <= len(properties):
        kind, size = struct.unpack_from("<II", properties, at)
        at += 8
        # They must be in ascending order.
        if kind < last or kind > _X86_ISA_1_NEEDED or at + size > len(properties):
            break
        if kind == _X86_ISA_1_NEEDED:
            levels: int = struct.unpack_from("<I", properties, at)[0] if size == 4 else 0
            return max(0, levels.bit_length() - 1)
        last = kind
        at += _up(size, align)
    return 0


def _description(notes: bytes, align: int) -> bytes | None:
    align = align if align in {4, 8, 16} else 1
    at = 0
    while at + 12 <= len(notes):
        name_size, size = struct.unpack_from("<II", notes, at)
        start = at + 12 + _up(name_size, align)
        if notes[at + 12 : at + 12 + name_size].rstrip(b"\0") == OWNER:
            # In some of NVIDIA's own files the size includes padding that the section lacks.
            return notes[start : start + size].strip(b"\0")
        at = start + _up(size, align)
    return None


def _up(size: int, to: int) -> int:
    return (size + to - 1) & -to


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """What there is of the file at `offset`: a file may say any number there."""
    if offset > _LAST_OFFSET or length <= 0:
        return b""
    return os.pread(descriptor, length, offset)
