# SPDX-License-Identifier: Apache-2.0
"""Images that are too much: of files, of folders, of lines, of depth. Time, memory and talk are bounded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.images import replace
from tests.attack.victim import Library, Victim

SHORT, LONG = 1, 10
"""The size of a bomb in the usual run, and at night."""

size = pytest.mark.parametrize(
    "size", [SHORT, pytest.param(LONG, marks=pytest.mark.nightly)], ids=["short", "long"]
)


def _self(victim: Victim, _size: int) -> None:
    victim.write("/etc/ld.so.conf", "include /etc/ld.so.conf\n/opt/odd\n")


def _cycle(victim: Victim, _size: int) -> None:
    victim.write("/etc/ld.so.conf", "include /etc/a.conf\n")
    victim.write("/etc/a.conf", "include /etc/b.conf\n/a\n")
    victim.write("/etc/b.conf", "include /etc/a.conf\n/b\n")


def _stars(victim: Victim, _size: int) -> None:
    victim.write("/etc/ld.so.conf", "include /*/*/*/*/*/*\ninclude /*\ninclude /etc/*" + "*?" * 900)
    for number in range(200):
        victim.write(f"/etc/{'a' * 200}{number}", "/x\n")


def _lines(victim: Victim, size: int) -> None:
    victim.write("/etc/ld.so.conf", "/a\n" * (30_000 * size))


def _different_lines(victim: Victim, size: int) -> None:
    victim.write("/etc/ld.so.conf", "".join(f"/{n}\n" for n in range(10_000 * size)))


def _one_line(victim: Victim, size: int) -> None:
    victim.write("/etc/ld.so.conf", "/" + "x" * (size << 20))


def _sparse(victim: Victim, size: int) -> None:
    place = victim.write("/etc/ld.so.conf")
    os.truncate(place, 6 << 30)


def _sparse_include(victim: Victim, size: int) -> None:
    os.truncate(victim.write("/etc/ld.so.conf.d/x.conf"), 6 << 30)


def _nul(victim: Victim, _size: int) -> None:
    victim.write("/etc/ld.so.conf", b"\0" * 60_000 + b"\n/a\0b\n\0/c\ninclude /etc/\0*\n")


def _dos(victim: Victim, _size: int) -> None:
    victim.write("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\r\n/opt/odd\r\n\r\r\n")


def _files(victim: Victim, size: int) -> None:
    for number in range(600 * size):
        victim.write(f"/etc/ld.so.conf.d/{number}.conf", "/a\n")


def _deep(victim: Victim, size: int) -> None:
    for number in range(100 * size):
        victim.write(f"/etc/{number}.conf", f"include /etc/{number + 1}.conf\n/{number}\n")
    victim.write("/etc/ld.so.conf", "include /etc/0.conf\n")


def _bytes(victim: Victim, _size: int) -> None:
    victim.write("/etc/ld.so.conf", bytes(range(256)) * 200)


CONFIGURATIONS = (
    _self, _cycle, _stars, _lines, _different_lines, _one_line, _sparse, _sparse_include, _nul, _dos,
    _files, _deep, _bytes,
)  # fmt: skip


@size
@pytest.mark.parametrize("make", CONFIGURATIONS, ids=lambda make: make.__name__.strip("_"))
def test_a_configuration(hostile: Victim, make: Callable[[Victim, int], None], size: int) -> None:
    """A38 conf-bombs: read within bounds, or refused with a line."""
    make(hostile, size)
    attempt = hostile.attack(*Victim.FULL, measured=True, prints=False)
    attempt.harmless(0, 1)
    refused = {_lines, _different_lines, _one_line, _sparse, _files}
    assert attempt.status == int(make in refused), attempt


def fill(folder: Path, count: int, name: Callable[[int], str]) -> None:
    """Hard links are the fastest files to make; a file takes 65,000 of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        first = folder / name(number // 60_000 * 60_000)
        if number % 60_000 == 0:
            first.touch()
        else:
            os.link(first, folder / name(number))


@size
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("usr/local/cuda/compat", "libcuda.so.{}"),
        ("usr/local/cuda/compat", "libcuda.so.{}.5"),
        ("lib", "lib{}.so.1"),
        ("opt/odd", "lib{}.so"),
        ("etc/ld.so.conf.d", "{}.conf"),
        ("dev", "nvidia{}"),
    ],
)
def test_a_folder_of_many(hostile: Victim, folder: str, name: str, size: int) -> None:
    """A41 dir-bombs, A42 stderr-flood: odd files by the thousand, none is named one by one."""
    fill(hostile.root / folder, 200_000 if size == LONG else 8_000, name.format)
    attempt = hostile.attack(*Victim.FULL, measured=True, prints=False)
    attempt.harmless(0, 1, lines=3)
    # A library folder of more than 65,536 names is refused.
    assert attempt.status == int(folder == "etc/ld.so.conf.d") or size == LONG


@pytest.mark.parametrize("count", [39, 41, 100])
@pytest.mark.parametrize("place", ["etc/ld.so.conf", "etc/ld.so.conf.d", "opt/odd", "lib"])
def test_a_chain_of_links(both: Victim, place: str, count: int) -> None:
    """A41 dir-bombs: one that the kernel would follow is followed, a longer one is none."""
    first = both.root / place
    real = first.with_name("chain0")
    if first.exists():
        first.rename(real)
    else:
        real.mkdir()
    for number in range(1, count):
        first.with_name(f"chain{number}").symlink_to(f"chain{number - 1}")
    first.symlink_to(f"chain{count - 1}")
    both.attack(*Victim.FULL).harmless(0, 1, lines=2, also=r".*chain0(/.*)?")


@pytest.mark.parametrize("kind", ["loop", "self", "two", "long", "empty name"])
@pytest.mark.parametrize("place", ["etc/ld.so.conf", "etc/ld.so.conf.d", "opt/odd"])
def test_links_that_lead_nowhere(both: Victim, place: str, kind: str) -> None:
    """A41 dir-bombs: loops, and names of 4,000 bytes."""
    texts = {
        "loop": f"/{place}",
        "self": os.path.basename(place) + "/x",
        "two": f"{os.path.basename(place)}2",
        "long": "a/" * 2000 + "b",
        "empty name": "./" * 2047 + ".",
    }
    replace(both.root / place, texts[kind])
    if kind == "two":
        (both.root / (place + "2")).symlink_to(f"/{place}")
    both.attack(*Victim.FULL).harmless(0, 1, lines=2, also=r"etc(/.*)?|opt(/.*)?")


@size
@pytest.mark.parametrize("where", ["etc/ld.so.conf.d", "opt/odd", "lib"])
def test_a_tree_that_is_deep(hostile: Victim, where: str, size: int) -> None:
    """A41 dir-bombs: 2,000 folders, one in another, in a place that is listed."""
    here = os.open(hostile.root / where, os.O_PATH)
    for _ in range(200 * size):
        os.mkdir("d" * 20, dir_fd=here)
        above, here = here, os.open("d" * 20, os.O_PATH, dir_fd=here)
        os.close(above)
    os.close(here)
    try:
        hostile.attack(*Victim.FULL, prints=False, measured=True).harmless(0)
    finally:
        # pytest's own clearing of old folders goes down by recursion, and would fail.
        subprocess.run(["rm", "-rf", hostile.root / where / ("d" * 20)], check=True)


@pytest.mark.parametrize("words", [("--folder", "/x" * 3000), ("--link", "x::/" + "y/" * 2200 + "z"), ("--link", "a::/" + "b/" * 200 + "c"), ("--folder", "/" + "n" * 300)])  # fmt: skip
def test_paths_that_are_long(both: Victim, words: tuple[str, str]) -> None:
    """A41 dir-bombs: 4,200 bytes, 200 folders that would have to be made, a name of 300 bytes."""
    attempt = both.attack("create-container", *Victim.LINK, *words).harmless(0, 1, 2)
    assert len(attempt.said) < 600


@size
def test_libraries_that_are_none(hostile: Victim, size: int) -> None:
    """A42 stderr-flood: thousands of files that no loader takes: broken, empty, of another machine."""
    heads = (b"\x7fELF\2\1\1", b"\x7fELF", b"", b"#!/bin/sh\n", b"\x7fELF\1\1\1" + b"\0" * 60)
    for number in range(2_000 * size):
        folder = ("lib", "opt/odd")[number % 2]
        hostile.write(f"/{folder}/lib\n\x1b[31m{number}.so.1", heads[number % 5])
    hostile.attack(*Victim.FULL, prints=False, measured=True).harmless(0)


def test_libraries_that_lie_about_their_size(hostile: Victim, library: Library) -> None:
    """A41 dir-bombs: headers that point far outside, a file of 1 TiB that is a library at its start."""
    library(hostile.root / "lib/libreal.so.1", "libreal.so.1")
    real = (hostile.root / "lib/libreal.so.1").read_bytes()
    for number, at in enumerate(range(16, 64, 2)):
        for value in (b"\xff\xff", b"\0\x80"):
            lie = real[:at] + value + real[at + 2 :]
            hostile.write(f"/lib/liblie{number}{value[0]}.so.1", lie)
    os.truncate(hostile.write("/lib/libhuge.so.1", real), 1 << 40)
    hostile.attack(*Victim.FULL, prints=False, measured=True).harmless(0)
