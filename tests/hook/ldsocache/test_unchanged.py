# SPDX-License-Identifier: Apache-2.0
"""A directory that is older than the image's cache: its entries are the cache's, and the same as ldconfig's."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdi_base import elf
from cdi_base.rootfs import mounts
from cdi_hook.ldso import cache_file, shared_libraries, unchanged
from cdi_hook.ldso.cache_file import Entry
from cdi_hook.ldso.library_directory import Folder
from tests.hook.conftest import TRIPLET
from tests.hook.glibc import assert_same, generator_of, glibc_cache, our_cache
from tests.hook.ldsocache.trees import FOLDERS, LIB, NAMES, TREES, grow, link, planted, put

OLD, WRITTEN = 1_600_000_000 * 10**9, 1_600_000_100 * 10**9
"""The mtime of every directory of an image, and that of its cache."""

EMPTIED = st.lists(
    st.sampled_from(["libcuda.so.1", "libnvidia-ml.so.550.1", "libnvcuvid.so.1"]), max_size=2
)


def age(root: Path, at: int = OLD) -> None:
    """Set the time of every directory."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, ns=(at, at))


class Looks:
    """Counts how often names of a directory are looked at, and files are opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = self.looks = self.directories = 0
        read, contents, unexplained = (
            elf.shared_library,
            Folder.leads_to_content,
            unchanged.unexplained,
        )

        def opening(file: int) -> elf.SharedLibrary:
            self.opened += 1
            return read(file)

        def looking(folder: Folder, name: str) -> bool:
            self.looks += 1
            return contents(folder, name)

        def deciding(*arguments: object) -> list[str] | None:
            names = unexplained(*arguments)  # type: ignore[arg-type]  # as given
            self.directories += names is not None
            return names

        monkeypatch.setattr(elf, "shared_library", opening)
        monkeypatch.setattr(Folder, "leads_to_content", looking)
        monkeypatch.setattr(unchanged, "unexplained", deciding)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.fixture
def image(root: Path) -> Path:
    for number in range(20):
        put(root, f"{LIB}/libimage{number}.so.1.2", f"libimage{number}.so.1")
        link(root, f"{LIB}/libimage{number}.so.1", f"libimage{number}.so.1.2")
        link(root, f"{LIB}/libimage{number}.so", f"libimage{number}.so.1")
    put(root, f"{LIB}/libplain.so", "libplain.so")
    put(root, f"{LIB}/libplain.so.1", "libplain.so.1")
    (root / LIB / "libc.so").write_text("GROUP ( libc.so.6 )\n" * 9)
    put(root, f"{LIB}/libc.so.6", "libc.so.6")
    put(root, "opt/odd/libodd.so.1", "libodd.so.1")
    age(root)
    return root


def same_as_a_scan(root: Path, memory: bytes, *, folders: tuple[str, ...] = FOLDERS) -> bytes:
    """Assert that merge, scan and ldconfig agree; return the cache."""
    theirs = glibc_cache(root, folders)
    generator = generator_of(theirs)
    scanned = our_cache(root, folders, generator=generator)
    merged = our_cache(root, folders, memory, generator, written=WRITTEN)
    assert_same(merged, scanned)
    assert_same(merged, theirs)
    return merged


@settings(max_examples=150, deadline=None)
@given(TREES, TREES, st.sampled_from([OLD, WRITTEN, WRITTEN + 1]))
def test_any_tree(
    files: dict[tuple[str, str], tuple[str, ...]],
    injected: dict[tuple[str, str], tuple[str, ...]],
    at: int,
) -> None:
    """An image of any time, and libraries of a driver in a directory of their own."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planted(root)
        grow(root, files)
        memory = glibc_cache(root, FOLDERS)
        age(root, at)
        grow(root, {("opt/driver", name): what for (_, name), what in injected.items()})
        folders = ("/opt/driver", *FOLDERS)
        theirs = glibc_cache(root, folders)
        generator = generator_of(theirs)
        assert_same(our_cache(root, folders, memory, generator, written=WRITTEN), theirs)


@settings(max_examples=60, deadline=None)
@given(TREES, EMPTIED)
def test_any_tree_with_what_a_driver_left(
    files: dict[tuple[str, str], tuple[str, ...]], emptied: list[str]
) -> None:
    """The cache is of a time at which the driver's libraries were mounted on empty files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planted(root)
        grow(root, files)
        for name in emptied:
            put(root, f"{LIB}/{name}", name)
        memory = glibc_cache(root, FOLDERS)
        for name in emptied:
            os.truncate(root / LIB / name, 0)
        age(root)
        same_as_a_scan(root, memory)


class TestMerged:
    def test_only_the_linkers_script_is_opened(self, image: Path, looks: Looks) -> None:
        memory = glibc_cache(image, FOLDERS)
        our_cache(image, FOLDERS, memory, written=WRITTEN)
        assert (looks.directories, looks.looks, looks.opened) == (2, 0, 1)
        same_as_a_scan(image, memory)

    def test_soname_that_is_no_name_of_a_library(self, image: Path, looks: Looks) -> None:
        """Debian's libopenmpi3 has one without a dot; the file of another name is read again."""
        put(image, f"{LIB}/libmpi_f08.so.40.30.4", "libmpi_f08-gfortranso.40")
        link(image, f"{LIB}/libmpi_f08.so.40", "libmpi_f08.so.40.30.4")
        link(image, f"{LIB}/libmpi_f08-gfortranso.40", "libmpi_f08.so.40.30.4")
        age(image)
        memory = glibc_cache(image, FOLDERS)
        assert b"gfortranso" in memory
        our_cache(image, FOLDERS, memory, written=WRITTEN)
        assert (looks.directories, looks.opened) == (2, 2)
        same_as_a_scan(image, memory)
        (image / LIB / "libmpi_f08.so.40").unlink()
        (image / LIB / "libmpi_f08.so.40.30.4").unlink()
        age(image)
        assert b"gfortranso" not in same_as_a_scan(image, memory)

    @pytest.mark.parametrize("at", [WRITTEN, WRITTEN + 1, WRITTEN + 10**12])
    def test_directory_that_is_not_older_is_scanned(
        self, image: Path, looks: Looks, at: int
    ) -> None:
        """Image layers and reproducible builds have times in seconds: an equal one is no proof."""
        memory = glibc_cache(image, FOLDERS)
        age(image, at)
        our_cache(image, FOLDERS, memory, written=WRITTEN)
        assert looks.directories == 0
        (image / LIB / "libimage3.so.1.2").unlink()
        os.truncate(image / LIB / "libimage4.so.1.2", 0)
        age(image, at)
        same_as_a_scan(image, memory)

    def test_only_the_directory_that_changed_is_scanned(self, image: Path, looks: Looks) -> None:
        memory = glibc_cache(image, FOLDERS)
        put(image, "opt/odd/libnew.so.1", "libnew.so.1")
        our_cache(image, FOLDERS, memory, written=WRITTEN)
        assert (looks.directories, looks.opened) == (1, 2)
        same_as_a_scan(image, memory)

    @pytest.mark.parametrize("format_", ["old", "compat"])
    def test_caches_of_older_glibcs(self, image: Path, looks: Looks, format_: str) -> None:
        memory = glibc_cache(image, FOLDERS, "-c", format_)
        assert memory.startswith(b"ld.so-1.7.0\0")
        same_as_a_scan(image, memory)
        assert looks.directories == 2 * (format_ == "compat")

    def test_order_of_equal_names_is_that_of_the_directory(self, root: Path, looks: Looks) -> None:
        for name in ("liba.so.1", "liba.so.01", "liba.so.001"):
            put(root, f"{LIB}/{name}", name)
        age(root)
        same_as_a_scan(root, glibc_cache(root, FOLDERS))
        assert looks.directories == 0

    def test_other_name_of_the_directory(self, image: Path, looks: Looks) -> None:
        memory = glibc_cache(image, FOLDERS)
        assert f"/lib/{TRIPLET}/libplain.so".encode() in memory
        merged = same_as_a_scan(image, memory, folders=(f"/usr/lib/{TRIPLET}",))
        assert f"/usr/lib/{TRIPLET}/libplain.so".encode() in merged
        assert looks.directories == 1

    def test_libraries_for_newer_processors(self, image: Path, looks: Looks) -> None:
        for level in ("x86-64-v2", "x86-64-v3"):
            put(image, f"{LIB}/glibc-hwcaps/{level}/libimage1.so.1.2", "libimage1.so.1")
        age(image)
        memory = glibc_cache(image, FOLDERS)
        shutil.rmtree(image / LIB / "glibc-hwcaps/x86-64-v3")
        put(image, f"{LIB}/glibc-hwcaps/x86-64-v4/libnew.so.1", "libnew.so.1")
        age(image)
        same_as_a_scan(image, memory)
        assert looks.directories == 2


class TestWhatTheTimeDoesNotShow:
    """Changes after which a directory is older than the cache."""

    @pytest.mark.parametrize(
        "added",
        [
            {"libnew.so.1.0": "libnew.so.1"},
            {"libnew.so": None},
            {"libimage3.so.2.0": "libimage3.so.2"},
            {"libimage3.so.10": None},
            {"ld-new.so.2": "ld-new.so.2"},
        ],
        ids=lambda added: next(iter(added)),
    )
    @pytest.mark.parametrize("linked", [False, True])
    def test_libraries_that_were_copied_with_their_directory(
        self, image: Path, added: dict[str, str | None], linked: bool
    ) -> None:
        """COPY of a Dockerfile, tar and `cp -a` set the time of the directory to that of the source."""
        memory = glibc_cache(image, FOLDERS)
        for name, soname in added.items():
            put(image, f"{LIB}/{name}", soname)
            if linked and soname and soname != name:
                link(image, f"{LIB}/{soname}", name)
                link(image, f"{LIB}/{soname.rpartition('.so')[0]}.so.link", name)
        age(image)
        assert len(same_as_a_scan(image, memory)) > len(memory)

    @pytest.mark.parametrize("is_link", [False, True])
    def test_name_for_the_linker(self, image: Path, is_link: bool) -> None:
        (image / LIB / "libimage3.so").unlink()
        memory = glibc_cache(image, FOLDERS)
        if is_link:
            link(image, f"{LIB}/libimage3.so", "libimage3.so.1.2")
        else:
            put(image, f"{LIB}/libimage3.so", "libimage3.so")
        age(image)
        assert b"/libimage3.so\0" in same_as_a_scan(image, memory)

    @pytest.mark.parametrize("name", ["libplain.so.01", "libplain.so.001", "libodd.so.0001"])
    def test_copied_name_that_equals_one_of_the_cache(self, image: Path, name: str) -> None:
        memory = glibc_cache(image, FOLDERS)
        for folder in (LIB, "opt/odd"):
            put(image, f"{folder}/{name}", name)
        age(image)
        same_as_a_scan(image, memory)

    def test_real_copies(self, image: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        memory = glibc_cache(image, FOLDERS)
        other = tmp_path_factory.mktemp("other")
        put(other, f"{LIB}/libcopied.so.1", "libcopied.so.1")
        age(other, OLD - 10**9)
        os.system(f"cp -a {other}/usr {image}")
        assert (image / LIB).stat().st_mtime_ns < OLD
        assert b"libcopied.so.1" in same_as_a_scan(image, memory)

    @pytest.mark.parametrize("name", ["libimage3.so.1", "libimage3.so.1.2", "libplain.so.1"])
    def test_removed_name(self, image: Path, name: str) -> None:
        memory = glibc_cache(image, FOLDERS)
        (image / LIB / name).unlink()
        age(image)
        same_as_a_scan(image, memory)

    def test_link_to_another_directory_that_changed(self, image: Path, looks: Looks) -> None:
        """As those of update-alternatives."""
        put(image, "opt/blas/libblas.so.3", "libblas.so.3")
        link(image, f"{LIB}/libblas.so.3", "/etc/alternatives/libblas")
        link(image, "etc/alternatives/libblas", "/opt/blas/libblas.so.3")
        age(image)
        memory = glibc_cache(image, FOLDERS)
        assert b"libblas" in same_as_a_scan(image, memory)
        (image / "opt/blas/libblas.so.3").unlink()
        age(image)
        assert b"libblas" not in same_as_a_scan(image, memory)

    @pytest.mark.parametrize("name", ["libcuda.so.1", "libnvidia-ml.so.1", "libnvoptix.so.1"])
    @pytest.mark.parametrize("linked", [False, True])
    def test_image_that_was_committed_from_a_container(
        self, image: Path, name: str, linked: bool
    ) -> None:
        file = put(image, f"{LIB}/{name}" + ".5" * linked, name)
        if linked:
            link(image, f"{LIB}/{name}", file.name)
        memory = glibc_cache(image, FOLDERS)
        os.truncate(file, 0)
        age(image)
        assert name.encode() not in same_as_a_scan(image, memory)

    def test_file_that_is_mounted_on_a_library(
        self, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = glibc_cache(image, FOLDERS)
        os.truncate(image / LIB / "libplain.so", 0)
        monkeypatch.setattr(mounts, "names", lambda: {"libplain.so"})
        assert b"libplain.so\0" not in same_as_a_scan(image, memory)


class TestMountPoints:
    """A runtime makes files to mount the driver's on, which changes the time of the directory."""

    DRIVER = ("libcuda.so.550", "libnvidia-ml.so.550")

    @pytest.fixture
    def image(self, image: Path) -> Path:
        self.memory = glibc_cache(image, FOLDERS)
        return image

    def start(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Do what engine and runtime do before the hook: config.json, mount points, links."""
        monkeypatch.setattr(shared_libraries, "_start_of", lambda _: time.time_ns() - 10**9)
        monkeypatch.setattr(mounts, "names", lambda: {*self.DRIVER, "resolv.conf"})
        for name in self.DRIVER:
            soname = f"{name.rpartition('.')[0]}.1"
            put(root, f"{LIB}/{name}", soname)

    def test_nothing_but_mounts(
        self, image: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.start(image, monkeypatch)
        assert b"libcuda.so.1" in same_as_a_scan(image, self.memory)
        assert looks.directories == 2
        assert looks.looks == 0

    @pytest.mark.parametrize(
        "what", ["library", "library and empty file", "removed", "dangling", "upgraded"]
    )
    def test_more_than_mounts(
        self, image: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        """The time of the image's own change is gone; the names show it."""
        match what:
            case "library":
                put(image, f"{LIB}/libnew.so.1", "libnew.so.1")
            case "library and empty file":
                put(image, f"{LIB}/libnew.so.1", "libnew.so.1")
                os.truncate(image / LIB / "libimage4.so.1.2", 0)
            case "removed":
                (image / LIB / "libplain.so.1").unlink()
            case "dangling":
                (image / LIB / "libimage3.so.1.2").unlink()
            case "upgraded":
                (image / LIB / "libimage3.so.1.2").unlink()
                (image / LIB / "libimage3.so.1").unlink()
                put(image, f"{LIB}/libimage3.so.2.2", "libimage3.so.2")
                link(image, f"{LIB}/libimage3.so.2", "libimage3.so.2.2")
        self.start(image, monkeypatch)
        same_as_a_scan(image, self.memory)

    def test_directory_that_changed_before_the_start(
        self, image: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.start(image, monkeypatch)
        os.truncate(image / LIB / "libimage3.so.1.2", 0)
        age(image, WRITTEN + 1)
        assert b"libimage3.so.1" not in same_as_a_scan(image, self.memory)
        assert looks.directories == 0

    def test_directory_without_mounts(
        self, image: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.start(image, monkeypatch)
        monkeypatch.setattr(mounts, "names", lambda: {"resolv.conf"})
        os.truncate(image / LIB / "libimage3.so.1.2", 0)
        assert b"libimage3.so.1" not in same_as_a_scan(image, self.memory)
        assert looks.directories == 1


class TestFalseCaches:
    """A cache of the image may have anything in it; it is older than no directory."""

    def test_names_that_do_not_exist(self, image: Path, looks: Looks) -> None:
        entries = [
            Entry(b"libimage1.so.1", f"/lib/{TRIPLET}/libimage1.so.1".encode(), 0x303),
            Entry(b"libghost.so.1", f"/lib/{TRIPLET}/libghost.so.1".encode(), 0x303),
            Entry(b"libghost.so.1", b"/no/such/directory/libghost.so.1", 0x303),
            Entry(b"libghost.so.1", b"/srv/elsewhere/libghost.so.1", 0x303),
            Entry(b"../../x", b"/opt/odd/../../x", 0x303),
            Entry(b"libodd.so.1", b"/opt/odd/libghost.so.1", 0x303),
        ]
        same_as_a_scan(image, cache_file.build(entries, []))
        assert looks.directories == 0

    @pytest.mark.parametrize("flags", [0x7777, 0, -1])
    def test_flags_that_no_library_has(self, image: Path, looks: Looks, flags: int) -> None:
        path = f"/lib/{TRIPLET}/libplain.so".encode()
        same_as_a_scan(image, cache_file.build([Entry(b"libplain.so", path, flags)], []))
        assert looks.directories == 0

    @settings(max_examples=60, deadline=None)
    @given(TREES, st.lists(st.tuples(st.sampled_from(FOLDERS), NAMES), max_size=6))
    def test_any_names_add_nothing_that_is_not_there(
        self, files: dict[tuple[str, str], tuple[str, ...]], names: list[tuple[str, str]]
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            planted(root)
            grow(root, files)
            entries = [
                Entry(os.fsencode(name), os.fsencode(f"{folder}/{name}"), 0x303)
                for folder, name in names
            ]
            age(root)
            merged = our_cache(root, FOLDERS, cache_file.build(entries, []), written=WRITTEN)
            parsed, scanned = cache_file.parse(merged), cache_file.parse(our_cache(root, FOLDERS))
            assert parsed is not None
            assert scanned is not None
            for place, in_it in parsed.folders.items():
                present = set(map(os.fsencode, os.listdir(root / os.fsdecode(place)[1:])))
                assert set(in_it) <= present | set(scanned.folders.get(place, ()))
