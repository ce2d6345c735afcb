# SPDX-License-Identifier: Apache-2.0
"""Hostile images cannot delay or break the writing of their ld.so.cache."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdi_base import ld_so_cache
from cdi_base.errors import HookError
from cdi_hook.ldso import cache_file, library_directory, shared_libraries
from cdi_hook.ldso.cache_file import Entry
from tests.hook.glibc import our_cache, root_fs
from tests.hook.ldsocache.trees import FOLDERS, link, put


class TestDamagedCaches:
    CACHE = cache_file.build(
        [Entry(b"liba.so.%d" % n, b"/lib/liba.so.%d" % n, 0x303, b"x86-64-v2" if n == 3 else b"") for n in range(5)],
        [b"x86-64-v2"],
    )  # fmt: skip

    @given(st.binary(max_size=300))
    @example(b"")
    @example(b"ld.so-1.7.0\0")
    @example(b"ld.so-1.7.0\0" + b"\xff" * 4)
    @example(b"glibc-ld.so.cache1.1" + b"\xff" * 28)
    def test_random_bytes_are_read_without_an_unexpected_error(self, content: bytes) -> None:
        cache_file.parse(content)

    @given(st.data())
    def test_damaged_cache_is_read_without_an_unexpected_error(self, data: st.DataObject) -> None:
        content = bytearray(self.CACHE)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 4))
            content[at : at + 4] = data.draw(
                st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"])
                | st.binary(min_size=4, max_size=4)
            )
        parsed = cache_file.parse(bytes(content[: data.draw(st.integers(0, len(content)))]))
        assert parsed is None or sum(map(len, parsed.folders.values())) <= 5

    def test_cache_whose_entries_share_megabytes_is_rejected(self) -> None:
        """A small table may stand for gigabytes."""
        count = 20_000
        head = struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", count, 0, 2, 0)
        at = 48 + 24 * count
        text = b"/" + b"a" * 4000 + b"/" + b"b" * 90 + b"\0"
        table = struct.pack("<iIIIQ", 0x303, at + 4002, at, 0, 0) * count
        assert cache_file.parse(head + table + text) is None
        assert cache_file.parse(head + table + b"a" * (1 << 22)) is None

    def test_cache_with_too_many_entries_is_rejected(self) -> None:
        head = struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", 20_001, 0, 2, 0)
        assert cache_file.parse(head + bytes(24 * 20_001)) is None


class TestBounds:
    def test_too_many_libraries_are_refused(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ld_so_cache, "MAX_ENTRIES", 3)
        for number in range(4):
            put(root, f"opt/odd/lib{number}.so", None)
        with pytest.raises(HookError, match="more than 3 libraries"):
            our_cache(root, FOLDERS)

    def test_too_many_names_in_a_directory_are_refused(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(library_directory, "MAX_NAMES", 3)
        for number in range(4):
            (root / f"opt/odd/{number}").touch()
        with pytest.raises(HookError, match="more than 3 names"):
            our_cache(root, FOLDERS)

    def test_too_many_hwcaps_directories_are_refused(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shared_libraries, "MAX_HWCAPS", 3)
        for number in range(4):
            (root / f"opt/odd/glibc-hwcaps/{number}").mkdir(parents=True)
        with pytest.raises(HookError, match="more than 3 kinds"):
            our_cache(root, FOLDERS)

    def test_cache_that_would_be_too_large_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_file, "MAX_SIZE", 200)
        with pytest.raises(HookError, match="larger than 200 bytes"):
            cache_file.build([Entry(b"liba.so", b"/lib/liba.so" + b"x" * 200, 3)], [])

    @pytest.mark.parametrize("is_empty", [False, True])
    def test_reading_stops_at_the_deadline(self, root: Path, is_empty: bool) -> None:
        if not is_empty:
            put(root, "opt/odd/libone.so.1", "libone.so.1")
        with pytest.raises(HookError, match="not done after"):
            shared_libraries.entries(root_fs(root), ["/opt/odd"], None, 0.0)

    @pytest.mark.parametrize("what", ["pipe", "device", "folder", "socket"])
    @pytest.mark.parametrize("how", ["there", "linked", "swapped in"])
    def test_pipes_and_devices_are_not_opened(
        self, root: Path, what: str, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Opening a pipe would block, and opening a watchdog's node would arm the watchdog."""
        put(root, "opt/odd/libone.so.1", "libone.so.1")
        target = root / ("srv" if how == "linked" else "opt/odd") / "libbad.so.1"
        target.parent.mkdir(exist_ok=True)
        match what:
            case "pipe":
                os.mkfifo(target)
            case "device":
                os.mknod(target, 0o020666, os.makedev(10, 130))
            case "folder":
                target.mkdir()
            case "socket":
                os.mknod(target, 0o140666)
        if how == "linked":
            link(root, "opt/odd/libbad.so.1", "/srv/libbad.so.1")
        if how == "swapped in":
            # The path was a regular file when the directory was listed.
            listing = library_directory.Folder.list

            def stale(folder: library_directory.Folder, *, hwcaps: bool) -> None:
                listing(folder, hwcaps=hwcaps)
                folder.names["libbad.so.1"] = False

            monkeypatch.setattr(library_directory.Folder, "list", stale)
        opening = os.open

        def watched(path: str, flags: int, *mode: int, **more: int) -> int:
            descriptor = opening(path, flags, *mode, **more)
            kind = os.fstat(descriptor).st_mode
            assert flags & os.O_PATH or stat.S_ISREG(kind) or stat.S_ISDIR(kind), path
            return descriptor

        monkeypatch.setattr(os, "open", watched)
        ours = our_cache(root, FOLDERS)
        assert b"libone" in ours
        assert b"libbad" not in ours

    def test_link_out_of_the_root_is_not_followed(
        self, root: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        outside = tmp_path_factory.mktemp("outside")
        put(outside, "libout.so.1", "libout.so.1")
        link(root, "opt/odd/libout.so.1", f"{outside}/libout.so.1")
        link(root, "opt/odd/libup.so.1", "../" * 30 + f"{outside}/libout.so.1"[1:])
        link(root, "opt/out", str(outside))
        assert b"libout" not in our_cache(root, ["/opt/odd", "/opt/out"])
        assert b"libup" not in our_cache(root, ["/opt/odd", "/opt/out"])
