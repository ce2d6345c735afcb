# SPDX-License-Identifier: Apache-2.0
"""``/etc/ld.so.cache``: the dynamic loader's index of library names.

Only the format of glibc 2.2 and later is read (``glibc-ld.so.cache1.1``), alone or behind the old
one; sysdeps/generic/dl-cache.h of glibc has the layout. 32- and 64-bit entries are told apart by
the library's own ELF header later, so the entries' flags are not looked at.
"""

from __future__ import annotations

import struct

MAGIC_OLD = b"ld.so-1.7.0\0"
MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sII20x")
_ENTRY = struct.Struct("<iIIIQ")
_OLD_ENTRY_SIZE = 12
MAX_ENTRIES = 1_000_000
MAX_NAME_BYTES = 4096
MAX_TEXT_BYTES = 64 << 20
"""Of all names together: entries may share bytes, so a small file can stand for gigabytes."""


class LdCacheError(Exception):
    """The bytes are not a loader cache."""


def parse(data: bytes) -> dict[str, tuple[str, ...]]:
    """Paths by library name (``libcuda.so.1``), in the cache's order of preference.

    Raises:
        LdCacheError: the bytes are something else, or damaged.
    """
    start = _start(data)
    if len(data) < start + _HEADER.size:
        raise LdCacheError("truncated header")
    magic, count, _ = _HEADER.unpack_from(data, start)
    if magic != MAGIC:
        raise LdCacheError("unknown format")
    table = start + _HEADER.size
    if count > MAX_ENTRIES or table + count * _ENTRY.size > len(data):
        raise LdCacheError("truncated table")
    paths: dict[str, list[str]] = {}
    size = 0
    for at in range(table, table + count * _ENTRY.size, _ENTRY.size):
        _, key, value, _, _ = _ENTRY.unpack_from(data, at)
        name, path = _string(data, start + key), _string(data, start + value)
        size += len(name) + len(path)
        if size > MAX_TEXT_BYTES:
            raise LdCacheError("more text than any loader cache has")
        paths.setdefault(name, []).append(path)
    return {name: tuple(found) for name, found in paths.items()}


def _start(data: bytes) -> int:
    """Where the new format begins: at once, or 8-byte aligned behind the old one."""
    if not data.startswith(MAGIC_OLD):
        return 0
    if len(data) < 16:
        raise LdCacheError("truncated header")
    count: int = struct.unpack_from("<I", data, 12)[0]
    return (16 + count * _OLD_ENTRY_SIZE + 7) & ~7


def _string(data: bytes, at: int) -> str:
    end = data.find(b"\0", at, at + MAX_NAME_BYTES)
    if end < 0:
        raise LdCacheError("a name lies outside the file, or has no end")
    return data[at:end].decode("ascii", errors="surrogateescape")
