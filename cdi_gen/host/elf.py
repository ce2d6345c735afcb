# SPDX-License-Identifier: Apache-2.0
"""The facts of an ELF file that matter here: class, machine, DT_SONAME, DT_NEEDED, DT_RUNPATH.

Written by hand because of time: for the 46 libraries of a 550 driver the well-kept reader
(pyelftools) takes longer than all else that ``generate`` does together; the row ``elf`` of
``make bench`` has the numbers, and ``tests/host`` compares the two on every library.
Layout: System V ABI, chapters 4 and 5; ``elf.h``.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import NamedTuple

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_RUNPATH = 0, 1, 5, 10, 14, 15, 29

MACHINES = {
    "x86_64": frozenset({62, 3}),
    "aarch64": frozenset({183, 40}),
    "ppc64le": frozenset({21, 20}),
}
"""``e_machine`` of the 64-bit and 32-bit libraries of an architecture, as ``uname -m`` names it."""

MAX_PROGRAM_HEADERS = 256
MAX_DYNAMIC_BYTES = 64 * 1024
MAX_STRING_TABLE_BYTES = 32 * 1024 * 1024
MAX_NAME_BYTES = 255
MAX_RUNPATH_BYTES = 16 * 1024
"""Nix names every package that a program needs."""


class ElfError(Exception):
    """The file is not an ELF shared library that can be read."""


class SharedLibrary(NamedTuple):
    """What the dynamic section says."""

    bits: int
    machine: int
    soname: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...] = ()
    """Directories in which the loader looks first for what the file needs."""

    @property
    def architecture(self) -> str:
        """Whose library it is, in the words of ``uname -m``."""
        for name, machines in MACHINES.items():
            if self.machine in machines:
                return name
        return f"ELF machine {self.machine}"


def read(path: str) -> SharedLibrary:
    """Read a little-endian ELF shared library.

    Raises:
        ElfError: it is something else, or damaged.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):  # opening a device could set it off
        raise ElfError("not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return _read(descriptor)
    except (struct.error, OverflowError) as error:  # an offset beyond what a file can have
        raise ElfError("truncated") from error
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> SharedLibrary:
    header = os.pread(descriptor, 64, 0)
    if header[:4] != b"\x7fELF":
        raise ElfError("not an ELF file")
    if header[5:6] != b"\x01":
        raise ElfError("not little-endian")
    bits = {1: 32, 2: 64}.get(header[4])
    if bits is None:
        raise ElfError("of an unknown ELF class")
    if bits == 64:
        table, size, count = (
            *struct.unpack_from("<Q", header, 32),
            *struct.unpack_from("<HH", header, 54),
        )
    else:
        table, size, count = (
            *struct.unpack_from("<I", header, 28),
            *struct.unpack_from("<HH", header, 42),
        )
    if not size or not 0 < count <= MAX_PROGRAM_HEADERS:
        raise ElfError("without program headers")
    loads, dynamic = _segments(os.pread(descriptor, size * count, table), bits, size, count)
    if dynamic is None:
        raise ElfError("without a dynamic section")
    (machine,) = struct.unpack_from("<H", header, 18)
    return _dynamic(descriptor, (bits, machine), loads, dynamic)


def _segments(
    headers: bytes, bits: int, size: int, count: int
) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None]:
    """(address, file offset, file size) of each loaded segment; (offset, size) of PT_DYNAMIC."""
    loads = []
    dynamic = None
    for at in range(0, size * count, size):
        if bits == 64:
            kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", headers, at)
        else:
            kind, offset, address, _, length = struct.unpack_from("<IIIII", headers, at)
        if kind == PT_LOAD:
            loads.append((address, offset, length))
        elif kind == PT_DYNAMIC:
            dynamic = (offset, min(length, MAX_DYNAMIC_BYTES))
    return loads, dynamic


def _dynamic(
    descriptor: int,
    kind: tuple[int, int],
    loads: list[tuple[int, int, int]],
    dynamic: tuple[int, int],
) -> SharedLibrary:
    bits, machine = kind
    section = os.pread(descriptor, dynamic[1], dynamic[0])
    entry = struct.Struct("<qQ" if bits == 64 else "<iI")
    needed, runpath, soname, strings, strings_size = [], [], None, None, 0
    for tag, value in entry.iter_unpack(section[: len(section) // entry.size * entry.size]):
        if tag == DT_NULL:
            break
        if tag == DT_NEEDED:
            needed.append(value)
        elif tag == DT_SONAME:
            soname = value
        elif tag in (DT_RPATH, DT_RUNPATH):
            runpath.append(value)
        elif tag == DT_STRTAB:
            strings = value
        elif tag == DT_STRSZ:
            strings_size = min(value, MAX_STRING_TABLE_BYTES)
    if strings is None:
        raise ElfError("without a string table")
    for address, offset, length in loads:
        if address <= strings < address + length:
            base = strings - address + offset
            break
    else:
        raise ElfError("whose string table is not in the file")

    def string(at: int, limit: int = MAX_NAME_BYTES) -> str:
        if at >= strings_size:
            raise ElfError("with a name outside its string table")
        raw, end, _ = os.pread(descriptor, limit + 1, base + at).partition(b"\0")
        name = raw.decode("ascii", errors="replace")
        if not end or not (name.isascii() and name.isprintable()):
            raise ElfError("with an unreadable name")
        return name

    return SharedLibrary(
        bits=bits,
        machine=machine,
        soname=None if soname is None else string(soname),
        needed=tuple(string(at) for at in needed),
        runpath=tuple(
            directory
            for at in runpath
            for directory in string(at, MAX_RUNPATH_BYTES).split(":")
            if directory.startswith("/")
        ),
    )
