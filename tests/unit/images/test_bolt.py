# SPDX-License-Identifier: Apache-2.0
"""The reader of bbolt's databases; tests/engine/matrix reads those of a real containerd."""

from __future__ import annotations

import os
import struct

import pytest

from cdi_gen.images import bolt
from cdi_gen.images.bolt import Database
from cdi_gen.images.errors import DamagedImageError
from cdi_gen.images.sources import FileSource

PAGE = 4096
Items = dict[bytes, "bytes | Items"]


def leaf(items: Items, number: int = 0) -> bytes:
    """A leaf page; a dictionary is an inline bucket."""
    head, body = b"", b""
    start = 16 * len(items)
    for index, (key, value) in enumerate(sorted(items.items())):
        is_bucket = isinstance(value, dict)
        content = struct.pack("<QQ", 0, 0) + leaf(value) if isinstance(value, dict) else value
        position = start - 16 * index + len(body)
        head += struct.pack("<IIII", is_bucket, position, len(key), len(content))
        body += key + content
    return struct.pack("<QHHI", number, 2, len(items), 0) + head + body


def branch(number: int, children: list[int]) -> bytes:
    """A branch page with children whose keys nobody reads."""
    head = b"".join(struct.pack("<IIQ", 0, 0, child) for child in children)
    return struct.pack("<QHHI", number, 1, len(children), 0) + head


def meta(number: int, root: int, transaction: int, *, damage: int = 0) -> bytes:
    fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 0, 10, transaction)
    checksum = struct.pack("<Q", bolt._fnv(fields) ^ damage)
    return struct.pack("<QHHI", number, 4, 0, 0) + fields + checksum


def source(*pages: bytes) -> FileSource:
    descriptor = os.memfd_create("bolt")
    os.write(descriptor, b"".join(page.ljust(PAGE, b"\0") for page in pages))
    return FileSource(descriptor)


def read(*pages: bytes) -> dict[bytes, bytes]:
    return {key: value for key, value, _ in Database(source(*pages), "db").root.items()}


def test_values_and_buckets_in_one_another() -> None:
    items: Items = {b"a": b"1", b"outer": {b"inner": {b"key": b"value"}, b"x": b"y"}}
    root = Database(source(meta(0, 2, 1), meta(1, 2, 0), leaf(items, 2)), "db").root
    assert root.get(b"a") == b"1"
    assert root.get(b"outer") is None
    inner = root.bucket(b"outer", b"inner")
    assert inner is not None
    assert inner.get(b"key") == b"value"
    assert root.bucket(b"outer", b"none", b"x") is None


def test_last_complete_transaction_counts() -> None:
    old, new = leaf({b"k": b"old"}, 2), leaf({b"k": b"new"}, 3)
    assert read(meta(0, 2, 4), meta(1, 3, 5), old, new) == {b"k": b"new"}
    # The daemon was interrupted while it wrote the second meta page.
    assert read(meta(0, 2, 4), meta(1, 3, 5, damage=1), old, new) == {b"k": b"old"}


def test_branch_pages() -> None:
    pages = (
        meta(0, 2, 1),
        meta(1, 2, 0),
        branch(2, [3, 4]),
        leaf({b"a": b"1"}, 3),
        leaf({b"b": b"2"}, 4),
    )
    assert read(*pages) == {b"a": b"1", b"b": b"2"}


@pytest.mark.parametrize(
    "page",
    [
        branch(2, [2]),
        branch(2, [99]),
        branch(2, [(1 << 64) - 1]),
        struct.pack("<QHHI", 2, 2, 60_000, 0),
        struct.pack("<QHHI", 2, 0, 1, 0),
        struct.pack("<QHHI", 7, 2, 0, 0),
        struct.pack("<QHHI", 2, 2, 0, 1 << 30),
        struct.pack("<QHHI", 2, 2, 1, 0) + struct.pack("<IIII", 0, 16, 4, 1 << 31),
    ],
    ids=[
        "loop",
        "outside",
        "far outside",
        "too many",
        "no kind",
        "another page",
        "huge",
        "value outside",
    ],
)
def test_damaged_page(page: bytes) -> None:
    with pytest.raises(DamagedImageError, match="damaged, or changed"):
        read(meta(0, 2, 1), meta(1, 2, 0), page)


@pytest.mark.parametrize("content", [b"", b"text" * 5000, bytes(20_000)])
def test_file_of_another_form(content: bytes) -> None:
    with pytest.raises(DamagedImageError, match="not a database"):
        read(content)


def test_reading_starts_again_while_the_daemon_writes() -> None:
    good = (meta(0, 2, 1), meta(1, 2, 0), leaf({b"k": b"v"}, 2))
    opened = [source(*good[:2], branch(2, [9])), source(*good)]
    assert bolt.read(lambda: opened.pop(0), "db", lambda root: root.get(b"k")) == b"v"


def test_numbers_of_variable_length() -> None:
    assert bolt.uvarint(b"\x01") == 1
    assert bolt.uvarint(b"\xac\x02") == 300
    assert bolt.uvarint(b"\xff" * 20) > 0
