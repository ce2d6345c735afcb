# SPDX-License-Identifier: Apache-2.0
"""The image's own cache saves opening files, and does not change the result."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdi_base import elf
from cdi_hook.ldso import cache_file
from cdi_hook.ldso.cache_file import Entry
from tests.hook.conftest import TRIPLET
from tests.hook.glibc import assert_same, generator_of, glibc_cache, our_cache
from tests.hook.ldsocache.trees import FOLDERS, LIB, NAMES, PLACES, grow, link, planted, put

ONE_MACHINE = st.one_of(
    st.tuples(st.just("library"), NAMES | st.none(), st.just("x86_64")),
    st.tuples(st.just("link"), NAMES, st.sampled_from(["", "", "/opt/odd/"])),
)
ORDINARY = st.dictionaries(
    st.tuples(st.sampled_from(PLACES[:3]), NAMES.filter(lambda name: "01" not in name)),
    ONE_MACHINE,
    max_size=10,
)


@settings(max_examples=80, deadline=None)
@given(ORDINARY, ORDINARY)
def test_result_is_the_same_with_and_without_the_images_cache(
    before: dict[tuple[str, str], tuple[str, ...]], added: dict[tuple[str, str], tuple[str, ...]]
) -> None:
    """The image at the time of its ldconfig, and the libraries that were injected since."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planted(root)
        grow(root, before)
        memory = glibc_cache(root, FOLDERS[1:])
        # A new file under a name of the cache is described by the entry of the cache.
        grow(root, {key: what for key, what in added.items() if os.fsencode(key[1]) not in memory})
        assert_same(our_cache(root, FOLDERS, memory), our_cache(root, FOLDERS))


class TestMemory:
    @pytest.fixture
    def image(self, root: Path) -> Path:
        for number in range(20):
            put(root, f"{LIB}/libimage{number}.so.1.2", f"libimage{number}.so.1")
            link(root, f"{LIB}/libimage{number}.so.1", f"libimage{number}.so.1.2")
        put(root, f"{LIB}/libplain.so", "libplain.so")
        link(root, f"{LIB}/libimage1.so", "libimage1.so.1")
        return root

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A list with an item for each opened library."""
        calls: list[int] = []
        read = elf.shared_library

        def noted(file: int) -> elf.SharedLibrary:
            calls.append(file)
            return read(file)

        monkeypatch.setattr(elf, "shared_library", noted)
        return calls

    def test_only_injected_libraries_are_opened(self, image: Path, opened: list[int]) -> None:
        memory = glibc_cache(image, FOLDERS)
        for number in range(5):
            put(image, f"{LIB}/libcuda{number}.so.550", f"libcuda{number}.so.1")
            link(image, f"{LIB}/libcuda{number}.so.1", f"libcuda{number}.so.550")
            link(image, f"{LIB}/libcuda{number}.so", f"libcuda{number}.so.1")
        ours = our_cache(image, FOLDERS, memory)
        assert len(opened) == 5
        assert ours == our_cache(image, FOLDERS)
        assert len(opened) == 5 + 26

    @pytest.mark.parametrize("format_", ["old", "compat"])
    def test_caches_of_older_glibcs(self, image: Path, opened: list[int], format_: str) -> None:
        memory = glibc_cache(image, FOLDERS, "-c", format_)
        assert memory.startswith(b"ld.so-1.7.0\0")
        assert our_cache(image, FOLDERS, memory) == our_cache(image, FOLDERS)
        assert len(opened) == (21 if format_ == "compat" else 42)

    def test_cache_with_another_name_of_the_directory_is_used(
        self, image: Path, opened: list[int]
    ) -> None:
        memory = glibc_cache(image, FOLDERS)
        assert f"/lib/{TRIPLET}/libplain.so".encode() in memory
        ours = our_cache(image, [f"/usr/lib/{TRIPLET}"], memory)
        assert opened == []
        assert f"/usr/lib/{TRIPLET}/libplain.so".encode() in ours

    @pytest.mark.parametrize(
        "change", ["gone", "upgraded", "dangling", "empty", "text", "moved away"]
    )
    def test_cache_older_than_the_directory_is_not_used(self, image: Path, change: str) -> None:
        memory = glibc_cache(image, FOLDERS)
        place = image / LIB
        match change:
            case "gone":
                (place / "libimage3.so.1").unlink()
                (place / "libimage3.so.1.2").unlink()
            case "upgraded":
                (place / "libimage3.so.1").unlink()
                (place / "libimage3.so.1.2").unlink()
                put(image, f"{LIB}/libimage3.so.2.0", "libimage3.so.2")
                link(image, f"{LIB}/libimage3.so.2", "libimage3.so.2.0")
            case "dangling":
                (place / "libimage3.so.1.2").unlink()
            case "empty":
                os.truncate(place / "libimage3.so.1.2", 0)
            case "text":
                (place / "libimage3.so.1").unlink()
                (place / "libimage3.so").write_text("GROUP\n" * 99)
            case "moved away":
                place.rename(image / "opt/away")
                place.mkdir()
        assert our_cache(image, FOLDERS, memory) == our_cache(image, FOLDERS)

    def test_false_entries_of_a_cache_affect_existing_files_only(self, image: Path) -> None:
        """The image's cache may have false flags, but only entries of existing files are reused."""
        entries = [
            Entry(b"libimage1.so.1", f"/lib/{TRIPLET}/libimage1.so.1".encode(), 0x303),
            Entry(b"libplain.so", f"/lib/{TRIPLET}/libplain.so".encode(), 0x7777),
            Entry(b"libc.so.6", b"/srv/elsewhere/libc.so.6", 0x303),
            Entry(b"libimage2.so.1", b"/srv/other.so", 0x303),
            Entry(b"../../x", b"/opt/odd/../../x", 0x303),
        ]
        lies = cache_file.build(entries, [])
        assert our_cache(image, FOLDERS, lies) == our_cache(image, FOLDERS)

    def test_generator_of_the_images_cache_is_kept(self, image: Path) -> None:
        theirs = glibc_cache(image, FOLDERS)
        assert generator_of(theirs).startswith(b"ldconfig ")
        assert generator_of(our_cache(image, FOLDERS)) == b"cdi-gen"
        for text in (b"x" * 5000, b"a\nb", b"\xff", b""):
            assert generator_of(cache_file.build([], [], text)) == b"cdi-gen"
