# SPDX-License-Identifier: Apache-2.0
"""Makes small shared libraries: what cdi-gen reads of a driver's, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Sequence

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RUNPATH = 0, 1, 5, 10, 14, 29
BASE = 0x10000
"""Where the file is loaded: addresses are not offsets."""


def shared_library(
    *,
    bits: int = 64,
    machine: int = 62,
    soname: bytes | None = b"libx.so.1",
    needed: Sequence[bytes] = (),
    runpath: bytes | None = None,
) -> bytes:
    """A library of a header, two program headers, a dynamic section and its strings."""
    strings = b"\0"
    entries = []
    for tag, names in (
        (DT_NEEDED, needed),
        (DT_SONAME, [] if soname is None else [soname]),
        (DT_RUNPATH, [] if runpath is None else [runpath]),
    ):
        for name in names:
            entries.append((tag, len(strings)))
            strings += name + b"\0"
    header, program, entry = (64, 56, "<qQ") if bits == 64 else (52, 32, "<iI")
    dynamic_at = header + 2 * program
    size = (len(entries) + 3) * struct.calcsize(entry)
    strings_at = dynamic_at + size
    entries += [(DT_STRTAB, BASE + strings_at), (DT_STRSZ, len(strings)), (DT_NULL, 0)]
    dynamic = b"".join(struct.pack(entry, *each) for each in entries)
    total = strings_at + len(strings)
    ident = b"\x7fELF" + bytes((2 if bits == 64 else 1, 1, 1)) + bytes(9)
    layout = "<16sHHIQQQIHHHHHH" if bits == 64 else "<16sHHIIIIIHHHHHH"
    head = struct.pack(layout, ident, 3, machine, 1, 0, header, 0, 0, header, program, 2, 0, 0, 0)
    return head + b"".join(
        (
            _program(bits, PT_LOAD, 0, BASE, total),
            _program(bits, PT_DYNAMIC, dynamic_at, BASE + dynamic_at, size),
            dynamic,
            strings,
        )
    )


def _program(bits: int, kind: int, offset: int, address: int, size: int) -> bytes:
    if bits == 64:
        return struct.pack("<IIQQQQQQ", kind, 4, offset, address, address, size, size, 8)
    return struct.pack("<IIIIIIII", kind, offset, address, address, size, size, 4, 4)
