# SPDX-License-Identifier: Apache-2.0
"""Writes /etc/ld.so.cache as glibc's ldconfig does since 2.32, byte for byte.

A header, a table of entries in the order that the loader's binary search needs, a string table
whose strings share their tails, and an extension part with the names of the `glibc-hwcaps`
directories and of the generator. Offsets count from the start of the file. Older loaders, since
glibc 2.2, read the file too and ignore what they do not know.
"""

from __future__ import annotations

import _struct as struct
import os

from cdi_base.errors import HookError
from cdi_base.ld_so_cache import (
    ENTRY,
    EXTENSION,
    EXTENSION_MAGIC,
    HEADER,
    MAGIC,
    SECTION,
    TAG_GENERATOR,
    TAG_HWCAPS,
    CacheError,
    entries_of,
    generator_of,
)
from cdi_base.syscalls import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_SIZE = 16 << 20
MAX_KEYS, MAX_NAME = 4096, 255
"""Keys of names that are kept, and the length of these names."""

GENERATOR = b"cdi-gen"
"""The generator that a new cache names, if the image's old cache names none."""

_LITTLE_ENDIAN = 2
_HWCAPS_BIT = 1 << 62


class Entry:
    """One library: the loader finds `path` when it looks for `name` and accepts the `flags`.

    `hwcaps` is the name of the library's `glibc-hwcaps` directory, or empty. `isa_level` is the
    processor level that the file needs; the cache has it for `glibc-hwcaps` directories only.
    """

    __slots__ = ("flags", "hwcaps", "isa_level", "name", "path")

    def __init__(
        self, name: bytes, path: bytes, flags: int, hwcaps: bytes = b"", isa_level: int = 0
    ) -> None:
        self.name = name
        self.path = path
        self.flags = flags
        self.hwcaps = hwcaps
        self.isa_level = isa_level


def build(entries: list[Entry], hwcaps: list[bytes], generator: bytes = GENERATOR) -> bytes:
    """Return the file with these entries; the loader finds the first of equal entries first.

    Args:
        entries: all libraries, in the order of their directories.
        hwcaps: the names of all `glibc-hwcaps` directories that were read, used or not.
        generator: the name of the generator.

    Raises:
        HookError: the file would be larger than 16 MiB.
    """
    # Entries of glibc-hwcaps come first, because the search ends at the first other entry.
    ordered = sorted((entry for entry in entries if entry.hwcaps), key=lambda entry: entry.hwcaps)
    ordered += [entry for entry in entries if not entry.hwcaps]
    ordered.sort(key=_sort_key(entries), reverse=True)

    texts = dict.fromkeys(hwcaps)
    for entry in ordered:
        texts[entry.name] = texts[entry.path] = None
    start = HEADER.size + ENTRY.size * len(ordered)
    offsets, strings = _string_table(list(texts), start)
    used = sorted({entry.hwcaps for entry in ordered if entry.hwcaps})
    levels = {name: _HWCAPS_BIT | index for index, name in enumerate(used)}

    extension = (start + len(strings) + 3) & ~3
    table = b"".join(
        ENTRY.pack(
            entry.flags,
            offsets[entry.name],
            offsets[entry.path],
            0,
            levels[entry.hwcaps] | entry.isa_level << 32 if entry.hwcaps else 0,
        )
        for entry in ordered
    )
    content = b"".join(
        (
            HEADER.pack(MAGIC, len(ordered), len(strings), _LITTLE_ENDIAN, extension),
            table,
            strings.ljust(extension - start, b"\0"),
            _extension(extension, [offsets[name] for name in used], generator),
        )
    )
    if len(content) > MAX_SIZE:
        raise HookError(
            f"the libraries' names need a cache larger than {MAX_SIZE} bytes", code="CDG-K008"
        )
    return content


def _sort_key(entries: list[Entry]) -> Callable[[Entry], bytes | tuple[_Name, int]]:
    """Return the key that sorts entries by their names, then by their flags."""
    if _has_long_number(b"/".join(entry.name for entry in entries)):
        return lambda entry: (_Name(entry.name), entry.flags)
    # No key of a name begins another one, so that the flags count for equal names only.
    flags = {entry.flags: struct.pack(">I", entry.flags + (1 << 31)) for entry in entries}
    return lambda entry: _key(entry.name) + flags[entry.flags]


def _string_table(texts: list[bytes], start: int) -> tuple[dict[bytes, int], bytes]:
    """Return the offset of each text, and all texts; a text that ends another shares its bytes."""
    offsets: dict[bytes, int] = {}
    parts: list[bytes] = []
    previous = b""
    end = start - 1
    # Sorted by their reversed letters, so that a text is followed by the texts that end it.
    for text in sorted(texts, key=lambda text: text[::-1], reverse=True):
        if not parts or not previous.endswith(text):
            parts.append(text)
            end += len(text) + 1
        offsets[text] = end - len(text)
        previous = text
    return offsets, b"".join(part + b"\0" for part in parts)


def _extension(at: int, hwcaps: list[int], generator: bytes) -> bytes:
    """Return the extension part: its directory, the offsets of names, and the generator."""
    count = 2 if hwcaps else 1
    names = at + EXTENSION.size + count * SECTION.size
    size = 4 * len(hwcaps)
    parts = [
        EXTENSION.pack(EXTENSION_MAGIC, count),
        SECTION.pack(TAG_GENERATOR, 0, names + size, len(generator)),
    ]
    if hwcaps:
        parts.append(SECTION.pack(TAG_HWCAPS, 0, names, size))
    return b"".join((*parts, struct.pack(f"<{len(hwcaps)}I", *hwcaps), generator))


# How the loader compares names (glibc: _dl_cache_libcmp): a run of digits is one number, and a
# number is more than any letter. Letters are C's `char`: signed on x86.

# Most names have ASCII letters and numbers of one digit. Their key is one translation.

_DIGITS = b"0123456789"
_END = b"\2"
_FIRST_LETTER, _HIGH_LETTER = 3, 1 if MACHINE == "x86_64" else 132
"""The first byte of an ASCII letter's rank, plus the letter; that of any other letter's rank, which
has two bytes. The end of a name is a NUL, which is more than a negative letter."""
_ONE_DIGIT, _MORE_DIGITS = 140, 150
"""The first byte of a number's rank, plus the digit or the number of digits, which follow."""

_ZEROS = bytes.maketrans(_DIGITS, b"0" * 10)
_RANK = bytes.maketrans(
    bytes(range(1, 128)), bytes(_FIRST_LETTER + letter for letter in range(1, 128))
)
_RANK = _RANK[:48] + bytes(range(_ONE_DIGIT, _ONE_DIGIT + 10)) + _RANK[58:]
_NUMBERS_ONLY = bytes(letter if letter in _DIGITS else 32 for letter in range(256))


def _has_long_number(name: bytes) -> bool:
    return b"0" * 10 in name.translate(_ZEROS)


_keys: dict[bytes, bytes] = {}
"""Keys of names that are compared more than once."""


def _key(name: bytes) -> bytes:
    """Return a key that sorts as the loader compares, if no number has more than nine digits."""
    key = _keys.get(name)
    if key is None:
        key = _new_key(name)
        if len(name) <= MAX_NAME and len(_keys) < MAX_KEYS:
            _keys[name] = key
    return key


def _new_key(name: bytes) -> bytes:
    if b"00" not in name.translate(_ZEROS):
        return _ranks(name) + _END
    parts: list[bytes] = []
    rest = name
    for run in name.translate(_NUMBERS_ONLY).split():
        before, _, rest = rest.partition(run)
        number = run.lstrip(b"0") or b"0"
        if len(number) > 1:
            number = bytes((_MORE_DIGITS + len(number),)) + number
            parts += (_ranks(before), number)
        else:
            parts.append(_ranks(before + number))
    return b"".join((*parts, _ranks(rest), _END))


def _ranks(text: bytes) -> bytes:
    """Return the ranks of letters and of numbers of one digit."""
    if text.isascii():
        return text.translate(_RANK)
    return b"".join(
        _RANK[letter : letter + 1] if letter < 128 else bytes((_HIGH_LETTER, letter))
        for letter in text
    )


class _Number(int):
    """A number like C's `int`, whose differences overflow."""

    def __lt__(self, other: int) -> bool:
        difference = int(self) - int(other)
        if abs(difference) < _FAR:
            difference = _as_int(difference)
        return difference < 0

    def __gt__(self, other: int) -> bool:
        return self != other and not self < other

    __hash__ = int.__hash__
    __eq__ = int.__eq__


_FAR = 1 << 40


def _as_int(number: int) -> int:
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


def _key_as_in_c(name: bytes) -> list[int]:
    """Return a key for all names; slower, and not transitive if numbers differ by too much."""
    parts: list[int] = []
    rest = name
    for run in name.translate(_NUMBERS_ONLY).split():
        before, _, rest = rest.partition(run)
        parts += map(_as_char, before)
        parts.append(_Number(2 * _FAR + _as_int(int(run))))
    return [*parts, *map(_as_char, rest), 0]


def _as_char(letter: int) -> int:
    return letter - 256 if letter > 127 and _HIGH_LETTER < _FIRST_LETTER else letter


class _Name:
    """A name that sorts as the loader compares: by its key, or by its numbers one by one.

    The numbers are not kept, because a number in Python takes as much memory as thirty letters.
    """

    __slots__ = ("_key", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._key = None if _has_long_number(text) else _key(text)

    def __lt__(self, other: _Name) -> bool:
        if self._key is not None and other._key is not None:
            return self._key < other._key
        return _key_as_in_c(self._text) < _key_as_in_c(other._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Name):
            return False
        if self._key is not None and other._key is not None:
            return self._key == other._key
        return _key_as_in_c(self._text) == _key_as_in_c(other._text)

    __hash__ = None  # type: ignore[assignment]  # only compared


def is_older(name: bytes, other: bytes) -> bool:
    """Whether a file name has an older version than another one."""
    return _key_as_in_c(name) < _key_as_in_c(other)


class Cache:
    """The content of a cache: the names and flags by directory, the generator, and its time.

    `time` is the mtime of the file in nanoseconds; 0 if directories must not be compared with it.
    """

    __slots__ = ("folders", "generator", "time")

    def __init__(
        self, folders: dict[bytes, dict[bytes, int]], generator: bytes, time: int = 0
    ) -> None:
        self.folders = folders
        self.generator = generator
        self.time = time


def parse(content: bytes, time: int = 0) -> Cache | None:
    """Return the entries of an image's cache for ordinary directories; None if it is invalid.

    Only libraries whose path ends in their name, as ldconfig writes them outside `glibc-hwcaps`.
    """
    folders: dict[bytes, dict[bytes, int]] = {}
    try:
        for flags, name, path, hardware in entries_of(content):
            folder, slash, last = path.rpartition(b"/")
            if slash and last == name and not hardware:
                folders.setdefault(folder, {}).setdefault(name, flags)
    except CacheError:
        return None
    return Cache(folders, generator_of(content) or GENERATOR, time)


def has_equal_names(names: Iterable[str]) -> bool:
    """Whether the loader takes two of these names, which differ, for equal: `liba.so.1` and `.01`.

    The order of their directory then decides which one comes first in the cache.
    """
    encoded = os.fsencode("\0".join(names))
    if _has_long_number(encoded):
        return True  # perhaps
    keys = list(map(_key, encoded.split(b"\0")))
    return len(set(keys)) < len(keys)
