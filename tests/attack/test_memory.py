# SPDX-License-Identifier: Apache-2.0
"""Small images that would fill the memory: each thing is within its bound, and the sum of them is not.

O-MEM measures the process: 128 MiB at its largest, as SECURITY.md promises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdi_hook.ldso import cache_file
from cdi_hook.ldso.cache_file import Entry
from tests.attack.test_bombs import fill
from tests.attack.test_reading import MUSL_PATH
from tests.attack.victim import Victim
from tests.hook.conftest import MACHINE
from tests.hook.shared_objects import shared_object

LONG = 4090
"""Bytes: almost what a path, a link's text and a SONAME may have."""

Make = Callable[[Victim], None]


def _hard_links(folder: Path, count: int, name: str, content: bytes) -> None:
    """So many names of one file, which has so much in it."""
    fill(folder, count, name.format)
    (folder / name.format(0)).write_bytes(content)


def _names(length: int, count: int, kind: str = "lib{}.so") -> Iterator[str]:
    for number in range(count):
        yield kind.format(f"{number:05}".ljust(length - len(kind) + 2, "x"))


def link_texts(victim: Victim) -> None:
    """Links whose texts are 4 kB each."""
    text = "x/" * (LONG // 2)
    for name in _names(12, 35_000):
        (victim.root / "opt/odd" / name).symlink_to(text)


def one_soname(victim: Victim) -> None:
    """One SONAME of 4 kB, of a file that has thousands of names."""
    library = shared_object(b"s" * LONG, MACHINE)
    _hard_links(victim.root / "opt/odd", 35_000, "lib{}.so.1", library)


def one_soname_for_newer_processors(victim: Victim) -> None:
    """The same in glibc-hwcaps, where the newest name counts."""
    library = shared_object(b"s" * LONG, MACHINE)
    _hard_links(victim.root / "opt/odd/glibc-hwcaps/x", 35_000, "lib{}.so.1", library)


def sonames(victim: Victim) -> None:
    """SONAMEs of 4 kB, each another."""
    for number, name in enumerate(_names(12, 9_000)):
        soname = f"{number}".ljust(LONG, "s").encode()
        victim.write(f"opt/odd/{name}", shared_object(soname, MACHINE))


def long_folders(victim: Victim) -> None:
    """A folder whose path is 4 kB long, before the names of thousands of libraries."""
    library = shared_object(None, MACHINE)
    _hard_links(victim.root / "opt/many", 35_000, "lib{}.so", library)
    victim.write("etc/ld.so.conf", "/." * (LONG // 2 - 12) + "/opt/many\n")


def sort_keys(victim: Victim) -> None:
    """SONAMEs of digits and letters in turn: as the loader compares them, a number each."""
    victim.write("opt/odd/liblong.so", shared_object(b"lib12345678901.so", MACHINE))
    for number, name in enumerate(_names(12, 900)):
        soname = f"{number}a".encode() + b"1a" * (LONG // 2 - 4)
        victim.write(f"opt/odd/{name}", shared_object(soname, MACHINE))


def include_pattern(victim: Victim) -> None:
    """A folder of many names, under a path of 4 kB."""
    _hard_links(victim.root / "many", 35_000, "{}.conf", b"/x\n")
    victim.write("etc/ld.so.conf", "include " + "/." * (LONG // 2) + "/many/*\n")


def search_path_of_musl(victim: Victim) -> None:
    """A folder of many names, listed for musl's loader under a path of 4 kB."""
    victim.write(f"lib/ld-musl-{MACHINE}.so.1")
    victim.write(MUSL_PATH, "/." * (LONG // 2 - 12) + "/opt/many\n")
    _hard_links(victim.root / "opt/many", 35_000, "lib{}.so", b"")


def versions_of_many_parts(victim: Victim) -> None:
    """Thousands of names of a hundred parts, in a directory that is older than the cache."""
    library = shared_object(None, MACHINE)
    _hard_links(victim.root / "opt/many", 9_000, "lib{}.so" + ".1" * 115, library)
    victim.write("etc/ld.so.conf", "/opt/many\n")
    entries = [
        Entry(name.encode(), f"/opt/many/{name}".encode(), 0x303)
        for name in os.listdir(victim.root / "opt/many")
    ]
    victim.write("etc/ld.so.cache", cache_file.build(entries, []))
    os.utime(victim.root / "opt/many", (1, 1))


SUMS: tuple[Make, ...] = (
    link_texts, one_soname, one_soname_for_newer_processors, sonames, long_folders, sort_keys,
    include_pattern, search_path_of_musl, versions_of_many_parts,
)  # fmt: skip


@pytest.mark.parametrize("make", SUMS, ids=lambda make: make.__name__)
def test_a_sum(hostile: Victim, make: Make) -> None:
    """A66 memory-sums: below the bound, or refused with a line."""
    make(hostile)
    if make is sort_keys:
        # It would last, which is another matter.
        hostile.altered(process__SECONDS="4")
    attempt = hostile.attack(*Victim.FULL, measured=True, prints=False)
    attempt.harmless(0, 1)
