# SPDX-License-Identifier: Apache-2.0
"""Reads for which architectures a library has code: its section `.nv_fatbin`.

The section consists of containers, a container of entries: a header and the code, PTX or a cubin,
mostly compressed. Only the headers are read. NVIDIA's fatbinary.h describes the containers; the
fields of entries are not published: they were compared with the output of cuobjdump 13.5 for
libraries of CUDA 11 to 13, and with files of NVIDIA's program fatbinary for the suffixes.
"""

from __future__ import annotations

import struct
from typing import Protocol

from cdi_gen.compat.facts import DeviceCode

SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")

_ELF = struct.Struct("<16xHH12xQQI2xHHHHH")
_SECTION = struct.Struct("<II16xQQ8xQ8x")
_CONTAINER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQ12xI8xQ16x")
"""Kind, version, size of the header, size of the code, then the architecture and the flags."""

_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_SPECIFIC, _FAMILY = 0x100000, 0x200000
"""Flags of code for one architecture alone (`sm_90a`) and for its family (`sm_100f`)."""

MAX_SECTIONS = 4096
MAX_ENTRIES = 300_000
"""The largest number of entries that are read of a library; libcublasLt has 6,000."""
_MAX_NAMES = 1 << 20


class Content(Protocol):
    """The content of a library."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes at the offset, fewer at the end."""


def device_code(content: Content, path: str) -> DeviceCode | None:
    """Return the architectures for which a library has code.

    Args:
        content: of the library.
        path: of the library, for the result.

    Returns:
        None if the file is no library of 64 bits, or has no code for GPUs.
    """
    sections = _sections(content)
    if not sections:
        return None
    reader = _Reader(content)
    for offset, size in sections:
        reader.read(offset, size)
    if not reader.cubins and not reader.ptx and reader.is_complete:
        return None
    return DeviceCode(
        path=path,
        cubins=tuple(sorted(reader.cubins, key=_order)),
        ptx=tuple(sorted(reader.ptx, key=_order)),
        complete=reader.is_complete,
    )


class _Reader:
    """Collects architectures from containers."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._left = MAX_ENTRIES
        self.cubins: set[str] = set()
        self.ptx: set[str] = set()
        self.is_complete = True

    def read(self, offset: int, size: int) -> None:
        end = offset + size
        while offset + _CONTAINER.size <= end:
            head = self._content.read_at(offset, _CONTAINER.size)
            if len(head) < _CONTAINER.size:
                self.is_complete = False
                return
            magic, _, head_size, length = _CONTAINER.unpack(head)
            self._left -= 1
            if magic != _MAGIC or self._left < 0:
                # Linkers align containers to 8 bytes with zeros.
                if self._left < 0 or any(head[:8]):
                    self.is_complete = False
                    return
                offset += 8
                continue
            self._read_entries(
                offset + max(head_size, _CONTAINER.size), min(offset + head_size + length, end)
            )
            offset += head_size + length

    def _read_entries(self, offset: int, end: int) -> None:
        while offset + _ENTRY.size <= end:
            head = self._content.read_at(offset, _ENTRY.size)
            self._left -= 1
            if len(head) < _ENTRY.size or self._left < 0:
                self.is_complete = False
                return
            kind, _, head_size, size, architecture, flags = _ENTRY.unpack(head)
            if head_size < _ENTRY.size:
                self.is_complete = False
                return
            suffix = "a" if flags & _SPECIFIC else "f" if flags & _FAMILY else ""
            if kind == _CUBIN:
                self.cubins.add(f"sm_{architecture}{suffix}")
            elif kind == _PTX:
                self.ptx.add(f"compute_{architecture}{suffix}")
            offset += head_size + size


def _sections(content: Content) -> list[tuple[int, int]]:
    """Return offset and size of the sections with code for GPUs."""
    head = content.read_at(0, _ELF.size)
    if len(head) < _ELF.size or head[:6] != b"\x7fELF\x02\x01":
        return []
    _, _, _, table, _, _, _, entry_size, count, names_at = _ELF.unpack(head)
    if entry_size != _SECTION.size or not names_at < count <= MAX_SECTIONS:
        return []
    rows = content.read_at(table, entry_size * count)
    if len(rows) < entry_size * count:
        return []
    sections = list(_SECTION.iter_unpack(rows))
    _, _, names_offset, names_size, _ = sections[names_at]
    names = content.read_at(names_offset, min(names_size, _MAX_NAMES))
    return [
        (offset, size)
        for name, _, offset, size, _ in sections
        if names[name : names.find(b"\0", name)] in SECTIONS and size
    ]


def _order(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2].rstrip("af")
    return int(digits), name
