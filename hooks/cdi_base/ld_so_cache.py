# SPDX-License-Identifier: Apache-2.0
"""Reads /etc/ld.so.cache, the dynamic loader's index of library names.

The format is that of glibc 2.2 and later (`glibc-ld.so.cache1.1`), alone or after the older format:
a header, a table of entries, the strings that entries refer to by offset, and since glibc 2.32 an
extension part. sysdeps/generic/dl-cache.h of glibc has the layout; `cdi_hook.ldso.cache_file`
writes it. The file may come from an image. So the strings of all entries together are bounded:
entries may share the bytes of a string.
"""

from __future__ import annotations

import _struct as struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ENTRIES = 20_000
"""A large desktop installation has a fourth of that."""
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
    """The content is not a loader cache, is damaged, or exceeds a limit."""


def entries_of(content: bytes) -> Iterator[tuple[int, bytes, bytes, int]]:
    """Yield each library in the order of the cache, in which the loader prefers earlier entries.

    Yields:
        The flags, the name that programs ask for, the path, and the hardware that the library
        needs: 0, unless the library is in a `glibc-hwcaps` directory.

    Raises:
        CacheError: the content is not a valid cache; some entries may have been yielded before.
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
    remaining = MAX_ALL_TEXT
    for flags, key, value, _, hardware in ENTRY.iter_unpack(table):
        name, path = _string(content, start + key), _string(content, start + value)
        remaining -= len(name) + len(path)
        if remaining < 0:
            raise CacheError("more text than any loader cache has")
        yield flags, name, path, hardware


def generator_of(content: bytes) -> bytes | None:
    """Return the generator that a valid cache names; None if it names none in printable text."""
    start = _start(content)
    *_, offset = HEADER.unpack_from(content, start)
    # All offsets count from the header of this format.
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
    """Return the offset of this format: 0, or after the older one, aligned (until glibc 2.31)."""
    if not content.startswith(OLD_MAGIC):
        return 0
    if len(content) < 16:
        raise CacheError("truncated header")
    count: int = struct.unpack_from("<I", content, 12)[0]
    return (16 + count * _OLD_ENTRY + 7) & ~7


def _string(content: bytes, at: int) -> bytes:
    end = content.find(b"\0", at, at + MAX_TEXT)
    if end < 0:
        raise CacheError("a name lies outside the file, or has no end")
    return content[at:end]


def _is_printable(text: bytes) -> bool:
    return 0 < len(text) <= MAX_GENERATOR and text.isascii() and text.decode().isprintable()
