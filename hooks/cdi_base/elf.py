# SPDX-License-Identifier: Apache-2.0
"""Reads ELF files through a descriptor: the facts that the loader uses, and NVIDIA's notes.

Only little-endian files of 32 or 64 bits are supported; an NVIDIA driver has no others.
A file that is damaged, truncated or crafted to be slow is an `ElfError`; `OSError` means that the
file cannot be read. At most 0.4 MiB of a library is read, whatever its offsets, and 1.4 MiB with
the names of its dependencies.

The reader does not use pyelftools, which takes 50 times as long for the libraries of a driver (the
row `elf` of `make bench`); tests compare the two.
Layout: System V ABI, chapters 4 and 5; the x86-64 psABI for the property.
"""

from __future__ import annotations

import _struct as struct
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    _Segment = tuple[int, int, int, int, int]

MAGIC = b"\x7fELF"

MAX_PROGRAM_HEADERS = 256
MAX_SECTION_HEADERS = 4096
MAX_DYNAMIC = 64 << 10
MAX_NOTE = 64 << 10
MAX_STRING_TABLE = 32 << 20
MAX_SONAME = 4095
"""ldconfig accepts a SONAME that is longer than a file name can be."""
MAX_NEEDED = 255
"""The longest file name in Linux (NAME_MAX)."""
MAX_SEARCH_PATH = 16 << 10
"""Longest DT_RPATH or DT_RUNPATH: Nix lists the directory of every package that a program needs."""

OWNER = b"NVIDIA Corporation"

EM_386, EM_PPC, EM_PPC64, EM_ARM, EM_X86_64, EM_AARCH64 = 3, 20, 21, 40, 62, 183

_ET_DYN = 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_GNU_PROPERTY = 1, 2, 3, 0x6474E553
_SHT_NOTE = 7
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME = 0, 1, 5, 10, 14
_DT_RPATH, _DT_RUNPATH = 15, 29
_NT_GNU_PROPERTY_TYPE_0 = 5
_X86_ISA_1_NEEDED = 0xC0008002

_HEAD = 4096
"""Bytes that are read first: the header, and in nearly all files the program headers after it."""

_MAX_NAMES_SPAN = 4096
"""Names within so many bytes are read at once."""

_LAST_OFFSET = 1 << 62


class ElfError(Exception):
    """The file is not an ELF file of the kind that is asked for, or is damaged."""


class _Class:
    """The layout of one ELF class, as `struct` formats and tuple positions."""

    __slots__ = ("bits", "dynamic", "header", "program", "section")

    def __init__(self, bits: int, header: str, program: str, section: str, dynamic: str) -> None:
        self.bits = bits
        # type, machine, phoff, shoff, flags, phentsize, phnum, shentsize, shnum, shstrndx
        self.header = struct.Struct(header)
        # type, offset, vaddr, filesz, align
        self.program = struct.Struct(program)
        # name, type, offset, size, addralign
        self.section = struct.Struct(section)
        self.dynamic = struct.Struct(dynamic)


_CLASSES = {
    1: _Class(32, "<16xHH8xIII2xHHHHH", "<IIIxxxxIxxxxxxxxI", "<II8xII8xI4x", "<iI"),
    2: _Class(64, "<16xHH12xQQI2xHHHHH", "<IxxxxQQ8xQ8xQ", "<II16xQQ8xQ8x", "<qQ"),
}


class SharedLibrary:
    """A shared library: `bits`, `machine`, the header's `flags`, and `soname`, None if it has none.

    `isa_level` is the x86 level that the library needs: 0 for the baseline, 1 for x86-64-v2.
    `needed` are the names of the libraries that it depends on; empty if they were not requested.
    """

    __slots__ = ("bits", "flags", "isa_level", "machine", "needed", "soname")

    def __init__(
        self,
        bits: int,
        machine: int,
        flags: int,
        soname: bytes | None,
        isa_level: int,
        needed: tuple[bytes, ...] = (),
    ) -> None:
        self.bits = bits
        self.machine = machine
        self.flags = flags
        self.soname = soname
        self.isa_level = isa_level
        self.needed = needed


class _Dynamic:
    """The dynamic section of a file: offsets of names by their tag, and the string table."""

    __slots__ = ("_descriptor", "_size", "_strings", "names", "needed")

    def __init__(self, descriptor: int, kind: _Class, programs: list[_Segment]) -> None:
        location = None
        for segment, offset, _, length, _ in programs:
            if segment == _PT_DYNAMIC:
                location = (offset, min(length, MAX_DYNAMIC))
        if location is None:
            raise ElfError("without a dynamic section")
        section = _read(descriptor, *location)
        whole = len(section) - len(section) % kind.dynamic.size
        self.names: dict[int, int] = {}
        self.needed: list[int] = []
        for tag, value in kind.dynamic.iter_unpack(section[:whole]):
            if tag == _DT_NULL:
                break
            if tag == _DT_NEEDED:
                self.needed.append(value)
            elif tag not in self.names:  # the first of several counts, as in ldconfig
                self.names[tag] = value
        address = self.names.get(_DT_STRTAB)
        if address is None:
            raise ElfError("without a string table")
        self._descriptor = descriptor
        self._size = min(self.names.get(_DT_STRSZ, 0), MAX_STRING_TABLE)
        self._strings = _file_offset(programs, address)

    def string(self, at: int, limit: int) -> bytes:
        if at >= self._size:
            raise ElfError("with a name outside its string table")
        text, end, _ = _read(self._descriptor, self._strings + at, limit + 1).partition(b"\0")
        if not end:
            raise ElfError("with an unreadable name")
        return text

    def needed_names(self) -> list[bytes]:
        """The names of the libraries that the file needs; linkers store them side by side."""
        offsets = self.needed
        if not offsets:
            return []
        first, last = min(offsets), max(offsets)
        if last - first > _MAX_NAMES_SPAN or last >= self._size:
            return [self.string(at, MAX_NEEDED) for at in offsets]
        table = _read(self._descriptor, self._strings + first, last - first + MAX_NEEDED + 1)
        names = []
        for at in offsets:
            end = table.find(b"\0", at - first, at - first + MAX_NEEDED + 1)
            if end < 0:
                raise ElfError("with an unreadable name")
            names.append(table[at - first : end])
        return names


def is_elf(descriptor: int) -> bool:
    """Whether a file begins as an ELF file does; a script does not.

    Args:
        descriptor: a regular file, open for reading, as in all functions of this module.
    """
    return _read(descriptor, 0, len(MAGIC)) == MAGIC


def shared_library(descriptor: int, *, dependencies: bool = False) -> SharedLibrary:
    """Return the facts of a shared library that a loader uses.

    Args:
        descriptor: a regular file, open for reading.
        dependencies: whether to read the names of the libraries that it needs.

    Raises:
        ElfError: the file is something else, or damaged.
    """
    head = _read(descriptor, 0, _HEAD)
    kind = _class_of(head)
    file_type, machine, _, _, flags, *_ = kind.header.unpack_from(head)
    if file_type != _ET_DYN:
        raise ElfError("not a shared library")
    programs = _programs(descriptor, head, kind)
    dynamic = _Dynamic(descriptor, kind, programs)
    isa_level = 0
    for segment, offset, _, length, align in programs:
        if segment == _PT_GNU_PROPERTY and align * 8 == kind.bits:
            isa_level = _isa_level(_read(descriptor, offset, min(length, MAX_NOTE)), align)
    at = dynamic.names.get(_DT_SONAME)
    soname = None if at is None else dynamic.string(at, MAX_SONAME)
    needed = tuple(dynamic.needed_names()) if dependencies else ()
    return SharedLibrary(kind.bits, machine, flags, soname, isa_level, needed)


def search_path(descriptor: int) -> tuple[bytes, ...]:
    """Return the absolute directories that the loader searches first for the libraries of a file.

    Args:
        descriptor: a program or a library.

    Raises:
        ElfError: the file is something else, damaged, or linked statically.
    """
    head = _read(descriptor, 0, _HEAD)
    kind = _class_of(head)
    dynamic = _Dynamic(descriptor, kind, _programs(descriptor, head, kind))
    paths = [
        dynamic.string(dynamic.names[tag], MAX_SEARCH_PATH)
        for tag in (_DT_RPATH, _DT_RUNPATH)
        if tag in dynamic.names
    ]
    return tuple(
        directory for path in paths for directory in path.split(b":") if directory.startswith(b"/")
    )


def note(descriptor: int, section: bytes) -> bytes | None:
    """Return the description of NVIDIA's first note in the note section of this name; or None.

    NUL bytes around the description are removed. A damaged file has no note.

    Args:
        descriptor: a regular file, open for reading.
        section: the name, such as `.note.cuda.fwd_compatibility`.
    """
    head = _read(descriptor, 0, 64)
    try:
        kind = _class_of(head)
    except ElfError:
        return None
    _, _, _, table_offset, _, _, _, entry_size, count, names = kind.header.unpack_from(head)
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
    """Whether the file is a 64-bit program or library without an interpreter."""
    head = _read(descriptor, 0, _HEAD)
    try:
        kind = _class_of(head)
        programs = _programs(descriptor, head, kind)
    except ElfError:
        return False
    return kind.bits == 64 and all(segment != _PT_INTERP for segment, *_ in programs)


def interpreter(descriptor: int) -> bytes | None:
    """Return the path of the loader that a program names; None if it is linked statically.

    Args:
        descriptor: a regular file, open for reading.

    Raises:
        ElfError: the file is something else, or damaged.
    """
    head = _read(descriptor, 0, _HEAD)
    for segment, offset, _, length, _ in _programs(descriptor, head, _class_of(head)):
        if segment == _PT_INTERP:
            return _read(descriptor, offset, min(length, MAX_SEARCH_PATH)).partition(b"\0")[0]
    return None


def _class_of(head: bytes) -> _Class:
    if not head.startswith(MAGIC):
        raise ElfError("not an ELF file")
    kind = _CLASSES.get(head[4]) if len(head) > 4 else None
    if kind is None:
        raise ElfError("of an unknown ELF class")
    if head[5:6] != b"\1":
        raise ElfError("not little-endian")
    # A shorter file cannot contain the header of either class; glibc ignores such files too.
    if len(head) < 64:
        raise ElfError("truncated")
    return kind


def _programs(descriptor: int, head: bytes, kind: _Class) -> list[_Segment]:
    """Return type, offset, address, size in the file and alignment of each segment."""
    _, _, offset, _, _, entry_size, count, *_ = kind.header.unpack_from(head)
    if not 0 < count <= MAX_PROGRAM_HEADERS:
        raise ElfError("without program headers")
    if entry_size != kind.program.size:  # ld.so: "ELF file's phentsize not the expected size"
        raise ElfError("with program headers of another size")
    size = entry_size * count
    table = head[offset : offset + size] if offset + size <= _HEAD else b""
    if len(table) != size:
        table = _read(descriptor, offset, size)
    if len(table) != size:
        raise ElfError("truncated")
    return list(kind.program.iter_unpack(table))


def _file_offset(programs: list[_Segment], address: int) -> int:
    """Return the offset in the file of an address of the loaded file."""
    for segment, offset, start, size, _ in programs:
        if segment == _PT_LOAD and start <= address < start + size:
            return address - start + offset
    raise ElfError("whose string table is not in the file")


def _isa_level(notes: bytes, align: int) -> int:
    """Return the x86 level in the notes of a PT_GNU_PROPERTY segment; 0 if the notes have none."""
    at = 0
    while at + 12 < len(notes):
        name_size, size, note_kind = struct.unpack_from("<III", notes, at)
        is_property = (name_size, note_kind) == (4, _NT_GNU_PROPERTY_TYPE_0)
        if is_property and notes.startswith(b"GNU", at + 12):
            return _needed_isa_level(notes[at + 16 : at + 16 + size], align)
        at += _up(_up(12 + name_size, align) + size, align)
    return 0


def _needed_isa_level(properties: bytes, align: int) -> int:
    at = last = 0
    while at + 8 <= len(properties):
        kind, size = struct.unpack_from("<II", properties, at)
        at += 8
        # The psABI requires ascending order of the properties.
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
            # In some files of NVIDIA the size includes padding that the section does not have.
            return notes[start : start + size].strip(b"\0")
        at = start + _up(size, align)
    return None


def _up(size: int, to: int) -> int:
    return (size + to - 1) & -to


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """Return the bytes at `offset`, as far as they exist: offsets in a file may be any number."""
    if offset > _LAST_OFFSET or length <= 0:
        return b""
    return os.pread(descriptor, length, offset)
