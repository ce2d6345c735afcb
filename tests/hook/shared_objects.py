# SPDX-License-Identifier: Apache-2.0
"""Builds small ELF shared libraries for any machine, without a compiler."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MACHINES = {
    "x86_64": (64, 62, 0),
    "x32": (32, 62, 0),
    "i386": (32, 3, 0),
    "i386 of 64 bits": (64, 3, 0),
    "aarch64": (64, 183, 0),
    "arm": (32, 40, 0x05000400),
    "ia64": (64, 50, 0),
}
"""Bits, e_machine, e_flags."""

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_GNU_PROPERTY = 1, 2, 0x6474E553
SHT_STRTAB, SHT_NOTE = 3, 7


def shared_object(
    soname: bytes | None,
    machine: str = "x86_64",
    *,
    kind: int = ET_DYN,
    isa_needed: int | None = None,
    notes: bytes | None = None,
    note_align: int = 4,
    needed: Sequence[bytes] = (b"libc.so.6",),
    runpath: bytes | None = None,
    told_size: int | None = None,
    strings_loaded: bool = True,
    strings_size: int | None = None,
) -> bytes:
    """The content of a file with one loaded segment, a dynamic section and the requested parts.

    Args:
        soname: the DT_SONAME; None: no DT_SONAME.
        machine: a key of `MACHINES`.
        kind: e_type.
        isa_needed: the bits of the x86 property of that name.
        notes: the content of a section `.note.test`.
        note_align: that section's sh_addralign.
        needed: each DT_NEEDED; glibc before 2.37 tells an i386 library of glibc by the first.
        runpath: its DT_RUNPATH, None for none.
        told_size: what e_phentsize says, if not the truth.
        strings_loaded: whether DT_STRTAB is an address of the loaded segment.
        strings_size: a false value of DT_STRSZ.
    """
    bits, number, flags = MACHINES[machine]
    wide = bits == 64
    word = bits // 8
    strings, tags = b"\0", []
    named = [*((1, name) for name in needed), (14, soname), (29, runpath)]
    for tag, name in ((tag, name) for tag, name in named if name is not None):
        tags.append((tag, len(strings)))
        strings += name + b"\0"
    properties = b""
    if isa_needed is not None:
        body = struct.pack("<III", 0xC0008002, 4, isa_needed)
        body += bytes(-len(body) % word)
        properties = struct.pack("<III4s", 4, len(body), 5, b"GNU") + body
    base = 0x10000
    programs = 3 if properties else 2
    header_size, program_size = (64, 56) if wide else (52, 32)
    at_strings = header_size + programs * program_size
    at_properties = (at_strings + len(strings) + 7) & ~7
    at_dynamic = at_properties + len(properties)
    tags.append((5, base + at_strings if strings_loaded else at_strings))
    tags += [(10, len(strings) if strings_size is None else strings_size), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ" if wide else "<iI", *tag) for tag in tags)
    at_notes = (at_dynamic + len(dynamic) + 15) & ~15
    names = b"\0.note.test\0.shstrtab\0"
    at_names = at_notes + len(notes or b"")
    at_sections = (at_names + len(names) + 7) & ~7

    def program(kind: int, at: int, size: int, align: int) -> bytes:
        if wide:
            return struct.pack("<IIQQQQQQ", kind, 4, at, base + at, base + at, size, size, align)
        return struct.pack("<IIIIIIII", kind, at, base + at, base + at, size, size, 4, align)

    def section(name: int, kind: int, at: int, size: int, align: int) -> bytes:
        layout = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
        return struct.pack(layout, name, kind, 0, 0, at, size, 0, 0, align, 0)

    sections = b""
    if notes is not None:
        sections = section(0, 0, 0, 0, 0) + section(1, SHT_NOTE, at_notes, len(notes), note_align)
        sections += section(12, SHT_STRTAB, at_names, len(names), 1)
    count = 3 if sections else 0
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        *(kind, number, 1, 0, header_size, at_sections if sections else 0, flags),
        *(header_size, told_size or program_size, programs, 64 if wide else 40, count, count and 2),
    )
    table = program(PT_LOAD, 0, at_sections + len(sections), 4096)
    table += program(PT_DYNAMIC, at_dynamic, len(dynamic), word)
    if properties:
        table += program(PT_GNU_PROPERTY, at_properties, len(properties), word)
    content = (header + table + strings).ljust(at_properties, b"\0") + properties + dynamic
    content = content.ljust(at_notes, b"\0") + (notes or b"")
    if sections:
        content = (content + names).ljust(at_sections, b"\0") + sections
    return content.ljust(128, b"\0")


def note(owner: bytes, description: bytes, align: int = 4, *, kind: int = 1) -> bytes:
    """One note, its name and description padded to `align`."""
    head = struct.pack("<III", len(owner), len(description), kind)
    name = owner + bytes(-len(owner) % align)
    return head + name + description + bytes(-len(description) % align)
