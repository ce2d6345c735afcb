# SPDX-License-Identifier: Apache-2.0
"""Our ld.so.cache of unusual trees equals that of glibc's ldconfig, byte for byte."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from tests.hook.conftest import TRIPLET
from tests.hook.glibc import assert_same, generator_of, glibc_cache, our_cache
from tests.hook.ldsocache.trees import FOLDERS, LIB, TREES, grow, link, planted, put, same_as_glibc
from tests.hook.shared_objects import ET_EXEC, MACHINES, shared_object

Tree = Callable[[str], Path]


class TestOddTrees:
    def test_tree_without_libraries(self, root: Path) -> None:
        same_as_glibc(root, ("/opt/odd", "/not/there"))

    @pytest.mark.parametrize("machine", MACHINES)
    def test_machines(self, root: Path, machine: str) -> None:
        put(root, "opt/odd/libone.so.1.2", "libone.so.1", machine)
        put(root, f"{LIB}/libtwo.so.1", "libtwo.so.1", "x86_64")
        same_as_glibc(root)

    def test_several_machines_at_once(self, root: Path) -> None:
        for folder, machine in (
            (LIB, "x86_64"),
            ("usr/lib/i386-linux-gnu", "i386"),
            ("usr/libx32", "x32"),
        ):
            for name in ("libc.so.6", "libcuda.so.1"):
                put(root, f"{folder}/{name}", name, machine)
        theirs = same_as_glibc(root, (*FOLDERS, "/usr/lib/i386-linux-gnu", "/usr/libx32"))
        assert theirs.count(b"/libc.so.6\0") == 3

    def test_an_i386_library_that_does_not_name_libc(self, root: Path, tree: Tree) -> None:
        """For glibc before 2.37 it may be of another C library; a loader takes it either way."""
        library = shared_object(b"libone.so.1", "i386", needed=[b"libtwo.so.1"])
        (root / "opt/odd/libone.so.1").write_bytes(library)
        theirs = glibc_cache(root, FOLDERS, program=tree("trixie") / "usr/sbin/ldconfig")
        assert_same(our_cache(root, FOLDERS, generator=generator_of(theirs)), theirs)

    def test_links(self, root: Path) -> None:
        put(root, "opt/odd/libone.so.1.2", "libone.so.1")
        for text, name in {
            "libone.so.1.2": "libone.so.1",
            "libone.so.1": "libone.so",
            "./libone.so.1.2": "libone.so.1.1",
            "../odd/libone.so.1.2": "libother.so",
            "/opt/odd/libone.so.1.2": "libabsolute.so.1",
            "nowhere": "libnowhere.so.1",
            "/proc/self/cwd": "libfolder.so.1",
            "libloop.so": "libloop.so",
            ".": "libdot.so",
        }.items():
            link(root, f"opt/odd/{name}", text)
        same_as_glibc(root)

    def test_links_to_libraries_elsewhere(self, root: Path) -> None:
        put(root, "srv/real-1", "libone.so.1")
        put(root, "srv/real-2")
        link(root, "opt/odd/libone.so.1", "/etc/alternatives/one")
        link(root, "etc/alternatives/one", "../../srv/real-1")
        link(root, "opt/odd/libtwo.so.2", "../../srv/real-2")
        link(root, "opt/odd/libthree.so", "/../../../srv/real-1")
        same_as_glibc(root)

    def test_a_library_without_the_link_of_its_soname(self, root: Path) -> None:
        put(root, "opt/odd/libone.so.1.2", "libone.so.1")
        link(root, "opt/odd/libone.so", "libone.so.1.2")
        put(root, "opt/odd/libtwo.so.2.0")
        theirs = same_as_glibc(root)
        assert b"/opt/odd/libone.so.1\0" in theirs
        assert our_cache(root, list(FOLDERS), theirs) == our_cache(root, list(FOLDERS))

    def test_files_that_are_not_libraries_are_ignored(self, root: Path) -> None:
        (root / "opt/odd/libempty.so").touch()
        (root / "opt/odd/libscript.so").write_text(
            "/* GNU ld script */ GROUP ( /lib/libx.so.1 )\n" * 9
        )
        (root / "opt/odd/libshort.so").write_bytes(shared_object(b"libshort.so")[:63])
        (root / "opt/odd/libprogram.so").write_bytes(shared_object(b"libprogram.so", kind=ET_EXEC))
        (root / "opt/odd/libfolder.so").mkdir()
        put(root, "opt/odd/libx.so.1.#prelink#", "libx.so.1")
        put(root, "opt/odd/libx.so.1.#prelink#.a1B2c3", "libx.so.1")
        put(root, "opt/odd/notlib.so.1", "notlib.so.1")
        put(root, "opt/odd/libstatic.a", "libstatic.so")
        put(root, "opt/odd/libgood.so.1", "libgood.so.1")
        assert same_as_glibc(root).count(b"/opt/odd/") == 1

    @pytest.mark.parametrize(
        "name", ["ld-linux-x86-64.so.2", "ld-2.12.so", "ld.so.1", "ld64.so.2", "ld.so", "ldx.so.1", "lib.so", "libx.sox"]
    )  # fmt: skip
    def test_names(self, root: Path, name: str) -> None:
        put(root, f"opt/odd/{name}", name)
        put(root, "opt/odd/libgood.so.1", "libgood.so.1")
        same_as_glibc(root)

    def test_names_of_any_bytes(self, root: Path) -> None:
        for name in (
            b"lib\xff\xfe.so.1",
            "libé.so.1".encode(),
            b"lib\n.so.1",
            b"lib\x7f.so.2",
            b"lib .so",
            b"lib~.so.1",
        ):
            (os.fsencode(root) + b"/opt/odd/" + name).decode(errors="surrogateescape")
            with open(os.fsencode(root) + b"/opt/odd/" + name, "wb") as file:
                file.write(shared_object(name))
        same_as_glibc(root)

    @pytest.mark.parametrize(
        "soname", ["", "odd name", "../../x.so", "/etc/x.so", "x" * 255, "y" * 4000, "é"]
    )
    def test_sonames(self, root: Path, soname: str) -> None:
        put(root, "opt/odd/libone.so.1", soname)
        put(root, "opt/odd/libtwo.so.1", soname)
        same_as_glibc(root)

    def test_versions_are_numbers(self, root: Path) -> None:
        for version in ("1", "01", "001", "2", "10", "9", "1.2", "1.10", "1a", "a1", "", "0", "00"):
            put(root, f"opt/odd/libn{version}.so.{version}", f"libn{version}.so.{version}")
        same_as_glibc(root)

    @pytest.mark.parametrize(
        "numbers",
        [
            ("2147483647", "2147483648"),
            ("4294967295", "1"),
            ("20240101123456", "3"),
            ("99999999999", "12345678901234567890"),
        ],
    )
    def test_numbers_too_large_for_c(self, root: Path, numbers: tuple[str, str]) -> None:
        for number in numbers:
            put(root, f"opt/odd/liblarge-{number}.so", f"liblarge-{number}.so")
        put(root, "opt/odd/liblarge.so.5", "liblarge.so.5")
        same_as_glibc(root)

    def test_the_same_soname_more_than_once(self, root: Path) -> None:
        for folder in ("opt/odd", LIB):
            for version in ("1.9", "1.10", "1.2"):
                put(root, f"{folder}/libone.so.{version}", "libone.so.1")
        put(root, "opt/odd/libone.so.1", "libone.so.1", "i386")
        same_as_glibc(root)

    def test_a_folder_under_several_names(self, root: Path) -> None:
        put(root, f"{LIB}/libone.so.1", "libone.so.1")
        link(root, "opt/link", f"../{LIB}")
        for folders in (
            (f"/usr/lib/{TRIPLET}", f"/lib/{TRIPLET}"),
            (f"/lib/{TRIPLET}", f"/usr/lib/{TRIPLET}"),
            ("/opt/link", f"/usr/lib/{TRIPLET}", "/opt/link/"),
        ):
            assert same_as_glibc(root, folders).count(b"/libone.so.1\0") == 1

    @pytest.mark.parametrize(
        "line",
        [
            "/opt/odd/",
            "/opt/odd//",
            "/opt/odd ",
            "/opt/odd=libc6",
            "/opt/odd=x",
            "//opt//odd",
            "/opt/../opt/odd",
            "/",
            "//",
        ],
    )
    def test_how_a_folder_is_written(self, root: Path, line: str) -> None:
        put(root, "opt/odd/libone.so.1", "libone.so.1")
        put(root, f"{LIB}/libtwo.so.1", "libtwo.so.1")
        same_as_glibc(root, (line, f"/usr/lib/{TRIPLET}"))

    def test_path_that_is_not_a_directory_is_ignored(self, root: Path) -> None:
        put(root, "opt/libfile.so.1", "libfile.so.1")
        link(root, "opt/gone", "nowhere")
        same_as_glibc(root, ("/opt/libfile.so.1", "/opt/gone", "/opt"))

    def test_sparse_library_of_two_gigabytes(self, root: Path) -> None:
        library = put(root, "opt/odd/libone.so.1", "libone.so.1")
        os.truncate(library, 1 << 31)
        (root / "opt/odd/libzero.so").touch()
        os.truncate(root / "opt/odd/libzero.so", 1 << 33)
        same_as_glibc(root)


class TestBetterProcessors:
    """glibc-hwcaps."""

    def test_hwcaps_directories(self, root: Path) -> None:
        for folder in ("opt/odd", LIB):
            put(root, f"{folder}/libone.so.1.0", "libone.so.1")
            for level in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "unheard-of"):
                put(root, f"{folder}/glibc-hwcaps/{level}/libone.so.1.0", "libone.so.1")
        theirs = same_as_glibc(root)
        assert theirs.count(b"/libone.so.1.0\0") == 8

    @pytest.mark.parametrize("needed", [0, 1, 2, 4, 8, 15, 1 << 9])
    def test_the_isa_level_of_a_file_is_in_its_entry(self, root: Path, needed: int) -> None:
        place = put(root, "opt/odd/glibc-hwcaps/x86-64-v3/libone.so.1.0")
        for machine in ("x86_64", "x32", "i386"):
            library = shared_object(f"lib{machine}.so.1".encode(), machine, isa_needed=needed)
            place.with_name(f"lib{machine}.so.1.0").write_bytes(library)
        same_as_glibc(root)

    def test_a_compilers_level(self, root: Path, compiled: Callable[..., Path]) -> None:
        options = ("-shared", "-fPIC", "-nostdlib", "-Wl,-soname,liblevel.so.1", "-Wl,-z,x86-64-v3")
        library = compiled("level", "int answer(void){return 42;}", *options)
        (root / "opt/odd/glibc-hwcaps/x86-64-v3").mkdir(parents=True)
        shutil.copy(library, root / "opt/odd/glibc-hwcaps/x86-64-v3/liblevel.so.1.0")
        theirs = same_as_glibc(root)
        assert struct.pack("<Q", 1 << 62 | 2 << 32) in theirs

    def test_newest_file_of_each_soname_is_listed(self, root: Path) -> None:
        directory = "opt/odd/glibc-hwcaps/x86-64-v2"
        for version in ("1.9", "1.10", "1.2"):
            put(root, f"{directory}/libone.so.{version}", "libone.so.1")
        link(root, f"{directory}/libone.so.1", "libone.so.1.2")
        link(root, f"{directory}/libone.so", "libone.so.1")
        put(root, f"{directory}/libtwo.so.2", "libtwo.so.1")
        put(root, f"{directory}/libtwo.so.3", "libtwo.so.1", "i386")
        put(root, "srv/other", "libthree.so.1")
        link(root, f"{directory}/libthree.so.1", "/srv/other")
        link(root, f"{directory}/any-name", "/srv/other")
        same_as_glibc(root)

    def test_a_name_that_is_not_a_hwcaps_directory_is_ignored(self, root: Path) -> None:
        base = root / "opt/odd/glibc-hwcaps"
        for name in (".hidden", "a:b", "x86-64-v2/nested/glibc-hwcaps/x86-64-v3"):
            put(root, f"opt/odd/glibc-hwcaps/{name}/libone.so.1", "libone.so.1")
        (base / "file").touch()
        put(root, "opt/odd/glibc-hwcaps/libtwo.so.1", "libtwo.so.1")
        (base / "used-for-nothing").mkdir()
        link(root, "opt/odd/glibc-hwcaps/linked", "../../../srv/linked")
        put(root, "srv/linked/libthree.so.1", "libthree.so.1")
        link(root, "opt/odd/glibc-hwcaps/nowhere", "nowhere")
        same_as_glibc(root)

    def test_hwcaps_directory_that_ld_so_conf_lists_too(self, root: Path) -> None:
        put(root, "opt/odd/glibc-hwcaps/x86-64-v2/libone.so.1", "libone.so.1")
        folder = "/opt/odd/glibc-hwcaps/x86-64-v2"
        same_as_glibc(root, ("/opt/odd", folder))
        same_as_glibc(root, (folder, "/opt/odd"))

    def test_legacy_hwcaps_directories_are_ignored(self, root: Path, tree: Tree) -> None:
        """glibc since 2.37 ignores `tls`, `haswell` and similar directories; ldconfig 2.36 reads them."""
        for folder in ("haswell", "tls", "x86_64"):
            put(root, f"opt/odd/{folder}/libone.so.1", "libone.so.1")
        put(root, "opt/odd/libone.so.1", "libone.so.1")
        theirs = glibc_cache(root, FOLDERS, program=tree("trixie") / "usr/sbin/ldconfig")
        assert_same(our_cache(root, FOLDERS, generator=generator_of(theirs)), theirs)


@settings(max_examples=120, deadline=None)
@given(TREES)
@example(
    {
        ("opt/odd", "liba.so.01"): ("library", None, "x86_64"),
        ("opt/odd", "liba.so.1"): ("library", None, "x86_64"),
    }
)
@example(
    {
        ("opt/odd", "liba.so.1"): ("library", "liba.so.1", "i386"),
        ("opt/odd", "liba.so.2"): ("library", "liba.so.1", "x86_64"),
    }
)
def test_any_tree(files: dict[tuple[str, str], tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planted(root)
        grow(root, files)
        theirs = glibc_cache(root, FOLDERS)
        assert_same(our_cache(root, FOLDERS, generator=generator_of(theirs)), theirs)
