# SPDX-License-Identifier: Apache-2.0
"""Reads /etc/ld.so.cache, the dynamic loader's index of library names.

The format is that of glibc 2.2 and later (`glibc-ld.so.cache1.1`), alone or behind the older one:
a header, a table of entries, the texts that they name by their offsets, and since glibc 2.32 an
extension part. sysdeps/generic/dl-cache.h of glibc has the layout; `cdi_hook.ldso.cache_file`
writes it. Who reads a file that others may have written is safe from it: the texts of all entries
together are bounded, since entries may share their bytes.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ENTRIES = 20_000
"""A desktop with all of its languages has a fourth of that."""
MAX_TEXT = 4096
"""Bytes of one name or path, with the NUL at its end."""
MAX_ALL_TEXT = 8 << 20
MAX_GENERATOR = 256

MAGIC = b"glibc-ld.so.cache1.1"
OLD_MAGIC = b"ld.so-1.7.0\0"
_OLD_ENTRY = 12
HEADER = struct.Struct("<20sIIB3xI12x")
"""Magic, entries, bytes of texts, byte order, offset of the extension."""
ENTRY = struct.Struct("<iIIIQ")
"""Flags, name, path, (OS version), hardware."""
EXTENSION_MAGIC = 0xEAA42174
EXTENSION = struct.Struct("<II")
SECTION = struct.Struct("<IIII")
"""Tag, flags, offset, size."""
TAG_GENERATOR, TAG_HWCAPS = 0, 1


class CacheError(Exception):
    """The content is not a loader cache, is damaged, or is larger than any."""


def entries_of(content: bytes) -> Iterator[tuple[int, bytes, bytes, int]]:
    """Each library, in the cache's order: the one that the loader prefers comes first.

    Yields:
        Its flags, the name that programs need it by, its path, and what it needs of the hardware:
        0, unless it is from a `glibc-hwcaps` folder.

    Raises:
        CacheError: there is something else, perhaps only behind some entries.
    """
    start = _start(content)
    if len(content) < start + HEADER.size:
        raise CacheError("truncated header")
    magic, count, _, _, _ = HEADER.unpack_from(content, start)
    if magic != MAGIC:
        raise CacheError("unknown format")
    if count > MAX_ENTRIES:
        raise CacheError(f"more than {MAX_ENTRIES} entries")
    table = content[start + HEADER.size :][: count * ENTRY.size]
    if len(table) != count * ENTRY.size:
        raise CacheError("truncated table")
    free = MAX_ALL_TEXT
    for flags, key, value, _, hardware in ENTRY.iter_unpack(table):
        name, path = _text(content, start + key), _text(content, start + value)
        free -= len(name) + len(path)
        if free < 0:
            raise CacheError("more text than any loader cache has")
        yield flags, name, path, hardware


def generator_of(content: bytes) -> bytes | None:
    """Who says to have written a cache that `entries_of` reads; None if it is no printable text."""
    start = _start(content)
    *_, offset = HEADER.unpack_from(content, start)
    # Offsets of texts count from the header, and so does this one.
    content = content[start:]
    head = content[offset : offset + EXTENSION.size]
    if offset and len(head) == EXTENSION.size:
        magic, count = EXTENSION.unpack(head)
        sections = content[offset + EXTENSION.size :][: SECTION.size * min(count, 8)]
        whole = len(sections) - len(sections) % SECTION.size
        for tag, _, at, size in SECTION.iter_unpack(sections[:whole]):
            text = content[at : at + size]
            if magic == EXTENSION_MAGIC and tag == TAG_GENERATOR and _is_printable(text):
                return text
    return None


def _start(content: bytes) -> int:
    """Where this format begins: at once, or 8-byte aligned behind the older one (to glibc 2.31)."""
    if not content.startswith(OLD_MAGIC):
        return 0
    if len(content) < 16:
        raise CacheError("truncated header")
    count: int = struct.unpack_from("<I", content, 12)[0]
    return (16 + count * _OLD_ENTRY + 7) & ~7


def _text(content: bytes, at: int) -> bytes:
    end = content.find(b"\0", at, at + MAX_TEXT)
    if end < 0:
        raise CacheError("a name lies outside the file, or has no end")
    return content[at:end]


def _is_printable(text: bytes) -> bool:
    return 0 < len(text) <= MAX_GENERATOR and text.isascii() and text.decode().isprintable()
