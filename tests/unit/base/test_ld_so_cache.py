# SPDX-License-Identifier: Apache-2.0
"""The reader of ``ld.so.cache``: what ldconfig wrote, and whatever anybody else could write."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_base import ld_so_cache
from tests.property import strategies  # noqa: F401 - loads the profile

NAMES = {
    b"libcuda.so.1": (b"/usr/lib/x86_64-linux-gnu/libcuda.so.1", b"/usr/lib/libcuda.so.1"),
    b"libz.so.1": (b"/lib/libz.so.1",),
}


def paths_of(content: bytes) -> dict[bytes, tuple[bytes, ...]]:
    paths: dict[bytes, tuple[bytes, ...]] = {}
    for _, name, path, _ in ld_so_cache.entries_of(content):
        paths[name] = (*paths.get(name, ()), path)
    return paths


def cache(names: dict[bytes, tuple[bytes, ...]] = NAMES, *, behind_old: bool = False) -> bytes:
    """A cache as ldconfig lays it out: header, table, strings."""
    entries = [(name, path) for name, paths in names.items() for path in paths]
    strings = b""
    table = b""
    start = 48 + 24 * len(entries)
    for name, path in entries:
        key = start + len(strings)
        strings += name + b"\0"
        value = start + len(strings)
        strings += path + b"\0"
        table += struct.pack("<iIIIQ", 0x0303, key, value, 0, 0)
    header = struct.pack("<20sII20x", ld_so_cache.MAGIC, len(entries), len(strings))
    old = ld_so_cache.OLD_MAGIC + struct.pack("<I", 1) + bytes(12)
    old += bytes(-len(old) % 8)
    return (old if behind_old else b"") + header + table + strings


@pytest.mark.parametrize("behind_old", [False, True])
def test_reads_what_was_made(behind_old: bool) -> None:
    assert paths_of(cache(behind_old=behind_old)) == NAMES


def test_reads_what_ldconfig_writes(tmp_path: Path) -> None:
    """All of it, in ldconfig's own order of preference."""
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin")
    system = Path(f"/usr/lib/{os.uname().machine}-linux-gnu")
    if ldconfig is None or not system.is_dir():
        pytest.skip("no ldconfig, or no multiarch libraries on this machine")
    written = tmp_path / "cache"
    subprocess.run([ldconfig, "-X", "-C", str(written)], check=True, capture_output=True)
    listed = subprocess.run(
        [ldconfig, "-C", str(written), "-p"], check=True, capture_output=True, text=True
    ).stdout
    expected: dict[str, list[str]] = {}
    for line in listed.splitlines()[1:]:
        name, separator, path = line.strip().partition(" => ")
        if separator:
            expected.setdefault(name.split(" ")[0], []).append(path)
    found = paths_of(written.read_bytes())
    assert {
        name.decode(): [path.decode() for path in paths] for name, paths in found.items()
    } == expected
    assert len(found) > 20


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "truncated header"),
        (b"x" * 100, "unknown format"),
        (ld_so_cache.OLD_MAGIC, "truncated header"),
        (ld_so_cache.OLD_MAGIC + b"\xff\xff\xff\xff" + bytes(64), "truncated header"),
        (cache()[:60], "truncated table"),
        (cache()[:-1], "outside the file"),
        (struct.pack("<20sII20x", ld_so_cache.MAGIC, 2**32 - 1, 0), "more than 20000 entries"),
        (struct.pack("<20sII20x", ld_so_cache.MAGIC, 20_001, 0), "more than 20000 entries"),
        (struct.pack("<20sII20x", ld_so_cache.MAGIC, 20_000, 0), "truncated table"),
    ],
)
def test_a_damaged_cache(data: bytes, fault: str) -> None:
    with pytest.raises(ld_so_cache.CacheError, match=fault):
        paths_of(data)


@given(
    behind_old=st.booleans(),
    changes=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.sampled_from([0, 1, 48, 2**31, 2**32 - 1]).map(lambda n: n.to_bytes(4, "little"))
            | st.binary(min_size=1, max_size=8),
        ),
        max_size=6,
    ),
    cut=st.none() | st.integers(0, 300),
)
def test_no_bytes_get_it_into_trouble(
    behind_old: bool, changes: list[tuple[int, bytes]], cut: int | None
) -> None:
    content = bytearray(cache(behind_old=behind_old))
    for at, new in changes:
        start = at % len(content)
        content[start : start + len(new)] = new
    try:
        found = paths_of(bytes(content[:cut]))
    except ld_so_cache.CacheError:
        return
    assert all(len(path) < 4096 for paths in found.values() for path in paths)


@given(st.sampled_from([b"", ld_so_cache.MAGIC, ld_so_cache.OLD_MAGIC]), st.binary(max_size=200))
def test_any_bytes(start: bytes, data: bytes) -> None:
    with contextlib.suppress(ld_so_cache.CacheError):
        paths_of(start + data)


@pytest.mark.parametrize(("length", "fault"), [(60_000, "no end"), (4000, "more text")])
def test_entries_that_share_their_bytes(length: int, fault: str) -> None:
    """20,000 entries with one 60,000-byte name are 2.4 gigabytes, if each has a copy."""
    entries = 20_000
    name = b"x" * length + b"\0"
    at = 48 + 24 * entries
    data = struct.pack("<20sII20x", ld_so_cache.MAGIC, entries, len(name))
    data += struct.pack("<iIIIQ", 0, at, at, 0, 0) * entries + name
    with pytest.raises(ld_so_cache.CacheError, match=fault):
        paths_of(data)
