# SPDX-License-Identifier: Apache-2.0
"""The reader of code for GPUs. tests/parity compares it with NVIDIA's cuobjdump."""

from __future__ import annotations

import os
import struct

import pytest

from cdi_gen.compat import fatbin
from cdi_gen.compat.facts import DeviceCode
from cdi_gen.images.sources import FileSource

Entry = tuple[int, int, int]
"""Kind (1: PTX, 2: cubin), architecture and flags, as NVIDIA's program fatbinary 13.5 writes them."""

ENTRIES: list[Entry] = [
    (2, 80, 0x11),
    (1, 80, 0x8011),
    (2, 90, 0x100011),
    (1, 90, 0x108011),
    (2, 100, 0x1000011),
    (2, 100, 0x1100011),
    (2, 100, 0x1200011),
    (1, 120, 0x208011),
]


def container(entries: list[Entry], payload: int = 24) -> bytes:
    body = b""
    for kind, architecture, flags in entries:
        size = 80 if kind == 1 else 64
        head = struct.pack("<HHIQ", kind, 0x101, size, payload) + bytes(12)
        head += struct.pack("<I", architecture) + bytes(8) + struct.pack("<Q", flags)
        body += head.ljust(size, b"\0") + b"c" * payload
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def library(section: bytes, name: bytes = b".nv_fatbin") -> bytes:
    """An ELF file with one section."""
    names = b"\0" + name + b"\0.shstrtab\0"
    start = 64 + len(section)
    table = start + len(names)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    rows = bytes(64)
    for offset, size, title in ((64, len(section), 1), (start, len(names), 2 + len(name))):
        rows += struct.pack("<IIQQQQIIQQ", title, 1, 0, 0, offset, size, 0, 0, 1, 0)
    return header + section + names + rows


def read(content: bytes) -> DeviceCode | None:
    descriptor = os.memfd_create("library")
    os.write(descriptor, content)
    source = FileSource(descriptor)
    try:
        return fatbin.device_code(source, "/lib.so")
    finally:
        source.close()


def test_architectures_with_their_suffixes() -> None:
    assert read(library(container(ENTRIES))) == DeviceCode(
        path="/lib.so",
        cubins=("sm_80", "sm_90a", "sm_100", "sm_100a", "sm_100f"),
        ptx=("compute_80", "compute_90a", "compute_120f"),
    )


def test_several_containers_with_zeros_between_them() -> None:
    section = container([(2, 75, 0x11)]) + bytes(16) + container([(2, 86, 0x11)])
    code = read(library(section))
    assert code is not None
    assert (code.cubins, code.complete) == (("sm_75", "sm_86"), True)


def test_code_for_linking_counts_too() -> None:
    assert read(library(container(ENTRIES), b"__nv_relfatbin")) is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"#!/bin/sh", b"\x7fELF\x01\x01", library(b"", b".text"), library(container([]))],
    ids=["empty", "script", "32 bits", "without the section", "without entries"],
)
def test_file_without_code_for_gpus(content: bytes) -> None:
    assert read(content) is None


@pytest.mark.parametrize(
    "section",
    [
        container(ENTRIES)[:-100],
        container(ENTRIES[:1]) + b"x" * 64,
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 62) + container(ENTRIES[:2])[16:] + bytes(64),
    ],
    ids=["truncated", "rubbish after it", "size of the container"],
)
def test_damaged_section_keeps_what_was_read(section: bytes) -> None:
    code = read(library(section))
    assert code is not None
    assert "sm_80" in code.cubins


@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1, 1 << 62])
def test_offset_that_no_file_has(offset: int) -> None:
    content = bytearray(library(container(ENTRIES)))
    content[40:48] = struct.pack("<Q", offset)
    assert read(bytes(content)) is None


def test_number_of_entries_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "MAX_ENTRIES", 3)
    code = read(library(container(ENTRIES)))
    assert code is not None
    assert not code.complete
