# SPDX-License-Identifier: Apache-2.0
"""Reads bbolt databases, in which containerd keeps its metadata, without a lock.

A database is a tree of pages; a transaction writes changed pages to unused ones, and then one of
the two meta pages at the beginning. The daemon may write while this module reads, and then a page
may be reused: `read` starts again in this case. Layout: page.go, meta.go and bucket.go of bbolt.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

from cdi_gen.images.errors import DamagedImageError
from cdi_gen.images.sources import Source

T = TypeVar("T")

_PAGE = struct.Struct("<QHHI")
_META = struct.Struct("<IIIIQQQQQQ")
_LEAF = struct.Struct("<IIII")
_BRANCH = struct.Struct("<IIQ")
_BUCKET = struct.Struct("<QQ")

_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH_PAGE, _LEAF_PAGE = 1, 2
_IS_BUCKET = 1
_SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""Page sizes; the second meta page is at the offset of one page."""

MAX_DEPTH = 32
MAX_PAGE = 16 << 20
MAX_PAGES = 200_000
"""The largest number of pages that are read of a database."""
TRIES = 3


class Database:
    """A database as of its last transaction."""

    def __init__(self, source: Source, name: str) -> None:
        """Read the meta pages.

        Args:
            source: the file.
            name: of the file, for messages.

        Raises:
            DamagedImageError: the file is not a database.
        """
        self._source = source
        self._name = name
        self._left = MAX_PAGES
        newest = -1
        for offset in (0, *_SIZES):
            content = source.read_at(offset + _PAGE.size, _META.size)
            if len(content) != _META.size:
                continue
            magic, version, size, _, root, _, _, _, transaction, checksum = _META.unpack(content)
            if (magic, version) != (_MAGIC, _VERSION) or checksum != _fnv(content[:-8]):
                continue
            if offset in {0, size} and size in _SIZES and transaction > newest:
                newest, self._page_size, self._root = transaction, size, root
        if newest < 0:
            raise DamagedImageError(f"{name} is not a database of bbolt")

    @property
    def root(self) -> Bucket:
        """The bucket that contains all others."""
        return Bucket(self, self.page(self._root))

    def page(self, number: int) -> bytes:
        """Return a page with its overflow pages.

        Raises:
            DamagedImageError: the page is not one of the tree.
        """
        self._left -= 1
        offset = number * self._page_size
        head = self._source.read_at(offset, _PAGE.size)
        if self._left < 0 or len(head) < _PAGE.size:
            raise self.damage()
        own_number, _, _, overflow = _PAGE.unpack(head)
        size = (overflow + 1) * self._page_size
        if own_number != number or size > MAX_PAGE:
            raise self.damage()
        return self._source.read_at(offset, size)

    def damage(self) -> DamagedImageError:
        """Return the error for a page that is not as it must be."""
        return DamagedImageError(f"{self._name}: damaged, or changed while it was read")


class Bucket:
    """A bucket: keys with values or with buckets."""

    def __init__(self, database: Database, page: bytes) -> None:
        self._database = database
        self._page = page

    def items(self) -> Iterator[tuple[bytes, bytes, bool]]:
        """Yield keys, values, and whether the value is a bucket; in the order of the keys."""
        yield from self._items(self._page, 0)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None if it has none."""
        return next(
            (value for name, value, is_bucket in self.items() if name == key and not is_bucket),
            None,
        )

    def bucket(self, *keys: bytes) -> Bucket | None:
        """Return the bucket of a key, of the key of that bucket, and so on; None without it."""
        bucket: Bucket | None = self
        for key in keys:
            if bucket is None:
                return None
            bucket = next((child for name, child in bucket.buckets() if name == key), None)
        return bucket

    def buckets(self) -> Iterator[tuple[bytes, Bucket]]:
        """Yield the keys that have buckets, and the buckets."""
        for name, value, is_bucket in self.items():
            if is_bucket:
                yield name, self._opened(value)

    def _opened(self, value: bytes) -> Bucket:
        if len(value) < _BUCKET.size:
            raise self._database.damage()
        root, _ = _BUCKET.unpack_from(value)
        page = self._database.page(root) if root else value[_BUCKET.size :]
        return Bucket(self._database, page)

    def _items(self, page: bytes, depth: int) -> Iterator[tuple[bytes, bytes, bool]]:
        if depth > MAX_DEPTH or len(page) < _PAGE.size:
            raise self._database.damage()
        _, flags, count, _ = _PAGE.unpack_from(page)
        kind = _LEAF if flags & _LEAF_PAGE else _BRANCH if flags & _BRANCH_PAGE else None
        if kind is None or _PAGE.size + count * kind.size > len(page):
            raise self._database.damage()
        for number in range(count):
            at = _PAGE.size + number * kind.size
            if kind is _BRANCH:
                _, _, child = _BRANCH.unpack_from(page, at)
                yield from self._items(self._database.page(child), depth + 1)
                continue
            element_flags, position, key_size, value_size = _LEAF.unpack_from(page, at)
            start, middle = at + position, at + position + key_size
            if middle + value_size > len(page):
                raise self._database.damage()
            key, value = page[start:middle], page[middle : middle + value_size]
            yield key, value, bool(element_flags & _IS_BUCKET)


def read(open_source: Callable[[], Source], name: str, function: Callable[[Bucket], T]) -> T:
    """Return what a function reads of a database; start again if it changed meanwhile.

    Args:
        open_source: opens the file.
        name: of the file, for messages.
        function: reads the database; its argument is the bucket that contains all others.

    Raises:
        DamagedImageError: the database is damaged.
    """
    for attempt in range(1, TRIES + 1):
        source = open_source()
        try:
            return function(Database(source, name).root)
        except DamagedImageError:
            if attempt == TRIES:
                raise
        finally:
            source.close()
    raise AssertionError


def uvarint(content: bytes) -> int:
    """Return a number in the variable-length form of Go's encoding/binary."""
    number = shift = 0
    for byte in content[:10]:
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
        shift += 7
    return number


def _fnv(content: bytes) -> int:
    """Return the checksum FNV-1a of 64 bits."""
    number = 0xCBF29CE484222325
    for byte in content:
        number = ((number ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return number
