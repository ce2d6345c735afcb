# SPDX-License-Identifier: Apache-2.0
"""The driver's libraries are found on every layout, and read as pyelftools reads them."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_base.elf import ElfError
from cdi_gen.catalogue import catalogue
from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from cdi_gen.generate.driver_files import library_path, links
from cdi_gen.host.driver import shared_library
from cdi_gen.host.driver.libraries import LibrarySearch
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Inventory, Library, Missing
from cdi_gen.paths import HostPath, base_name, beneath, parent
from tests.fakehost.hosts import HOSTS, FakeHost
from tests.host import elf_oracle
from tests.host.driver_tree import HOOK
from tests.host.looking import driver_of, driver_root_of, look_at

GetHost = Callable[[str], FakeHost]
Look = Callable[..., Inventory]

pytestmark = pytest.mark.host

LOADED = sorted(set(HOSTS) - {"550-unloaded"})
LAYOUTS = [
    *("550-1gpu", "550-debian", "550-lib64", "550-usr-local", "550-operator", "550-nixos"),
    *("550-ostree", "550-server", "535-bookworm", "535-tesla", "470-tesla"),
]
MULTIARCH = "/usr/lib/x86_64-linux-gnu"


@pytest.mark.parametrize("name", LOADED)
def test_every_library_of_the_driver_is_found(host: GetHost, look: Look, name: str) -> None:
    """All that a search of the whole host finds, and nothing else."""
    inventory = look(name)
    found = {library.path for library in inventory.libraries}
    modules = {file.path for file in inventory.files if file.entry.startswith("libglxserver")}
    assert found | modules == set(elf_oracle.driver_libraries(host(name)))


@pytest.mark.parametrize("name", LOADED)
def test_libraries_are_read_as_pyelftools_reads_them(host: GetHost, look: Look, name: str) -> None:
    fake = host(name)
    for library in look(name).libraries:
        expected = elf_oracle.read(f"{fake.root}{library.path}")
        assert expected is not None
        assert library.bits == expected.bits
        assert library.soname == (expected.soname or base_name(library.path))
        assert library.needed == expected.needed


def test_every_elf_file_of_a_debian_is_read_alike(host: GetHost) -> None:
    """Not NVIDIA's alone: shared libraries by all kinds of linkers, executables, objects."""
    root = host("550-debian").root
    compared = 0
    for directory in (root / MULTIARCH[1:], root / "usr/lib/i386-linux-gnu", root / "usr/bin"):
        for path in sorted(directory.iterdir()):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 23:
                continue
            expected = elf_oracle.read(str(path))
            try:
                search_path = shared_library.search_path(str(path))
            except ElfError:
                # An executable without PT_DYNAMIC, or no ELF file: nothing to be read.
                assert expected is None, path
                continue
            assert expected is not None, path
            assert search_path == expected.runpath, path
            if expected.is_library:
                library = shared_library.read(str(path))
                assert library == expected[: len(library)], path
                compared += 1
            else:
                with pytest.raises(ElfError, match="not a shared library"):
                    shared_library.read(str(path))
    assert compared > 300


@pytest.mark.parametrize("name", LAYOUTS)
def test_links_and_aliases(host: GetHost, look: Look, name: str) -> None:
    """Every name that leads to a library, in its own directory and in the loader's."""
    fake = host(name)
    inventory = look(name)
    names: dict[str, set[str]] = {library.path: set() for library in inventory.libraries}
    directories = {parent(path) for path in names}
    public = (MULTIARCH, "/usr/lib/i386-linux-gnu", "/usr/lib", "/usr/lib64")
    root = "" if driver_root_of(fake) == "/" else driver_root_of(fake)
    directories |= {root + each for each in public} | {"/run/opengl-driver/lib"}
    directories |= {f"{each}/vdpau" for each in directories}
    for directory in sorted(directories):
        try:
            real = _resolve(fake, directory)
        except FileNotFoundError:
            continue
        for path in Path(f"{fake.root}{real}").iterdir():
            if path.is_symlink() and path.name.startswith("lib") and ".so" in path.name:
                try:
                    target = _resolve(fake, f"{real}/{path.name}")
                except FileNotFoundError:
                    continue
                if target in names:
                    names[target].add(f"{real}/{path.name}".removeprefix(root))
    for library in inventory.libraries:
        home = parent(library.path).removeprefix(root)
        own = {f"{home}/{each}" for each in library.links}
        # libGLX_indirect.so.0 is a link that the catalogue makes; its name is not the library's.
        expected = {each for each in names[library.path] if "GLX_indirect" not in each}
        assert own | set(library.aliases) == expected


def _resolve(fake: FakeHost, path: str) -> str:
    root = driver_root_of(fake)
    inside = beneath(path, root)
    if root == "/" or inside is None:
        return fake.resolve(path)
    return root + dataclasses.replace(fake, root=fake.driver_root).resolve(inside)


@pytest.mark.parametrize("name", [each for each in LAYOUTS if each != "550-nixos"])
def test_the_loaders_own_answers_are_found(host: GetHost, look: Look, name: str) -> None:
    """What ldconfig says of a driver's library name is in the inventory under that name."""
    fake = host(name)
    listed = subprocess.run(
        ["ldconfig", "-r", str(fake.driver_root), "-p"], check=True, capture_output=True, text=True
    ).stdout
    libraries = {library.path: library for library in look(name).libraries}
    by_target = 0
    for line in listed.splitlines()[1:]:
        soname, _, path = line.strip().partition(" => ")
        root = "" if driver_root_of(fake) == "/" else driver_root_of(fake)
        target = _resolve(fake, root + path)
        if fake.driver_version not in base_name(target):
            continue
        if "GLX_indirect" not in soname and "libglxserver" not in target:
            library = libraries[HostPath(target)]
            own = {base_name(target), library.soname, *library.links}
            assert soname.split()[0] in own | {base_name(each) for each in library.aliases}
            by_target += 1
    assert by_target > 5


@pytest.mark.parametrize("name", sorted(set(LOADED) - {"550-nogpu", "550-split"}))
def test_every_host_path_of_the_spec_is_there(host: GetHost, look: Look, name: str) -> None:
    """Each is a regular file or a socket, reached without a single link."""
    fake = host(name)
    for mount in generate(look(name)).container_edits.mounts:
        assert fake.resolve(mount.host_path) == mount.host_path
        mode = os.lstat(f"{fake.root}{mount.host_path}").st_mode
        assert stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


@pytest.mark.parametrize("name", LOADED)
def test_nothing_that_a_library_needs_stays_behind(look: Look, name: str) -> None:
    """DT_NEEDED of every taken library, as far as the driver itself provides it."""
    inventory = look(name)
    provided = {
        (library.bits, each)
        for library in inventory.libraries
        for each in (library.soname, base_name(library.path))
    }
    for library in inventory.libraries:
        for needed in library.needed:
            if "nvidia" in needed or "libcuda" in needed:
                assert (library.bits, needed) in provided
    assert not [missing for missing in inventory.missing if missing.code == "CDG-H203"]


def test_32_bit_libraries(look: Look) -> None:
    inventory = look("550-8gpu")
    thirty_two = [library for library in inventory.libraries if library.bits == 32]
    assert {parent(library.path) for library in thirty_two} == {
        "/usr/lib/i386-linux-gnu",
        "/usr/lib/i386-linux-gnu/vdpau",
    }
    assert "libcuda.so.550.163.01" in {base_name(library.path) for library in thirty_two}
    assert not any(
        "i386" in mount.host_path for mount in generate(inventory).container_edits.mounts
    )


@pytest.mark.parametrize("name", ["550-debian", "550-8gpu"])
def test_libraries_that_nvidia_ctk_misses_on_debian(look: Look, name: str) -> None:
    """The X server's GLX module, and the NVAPI library, whose name has no driver version."""
    inventory = look(name)
    api = next(each for each in inventory.libraries if "libnvidia-api" in each.path)
    assert base_name(api.path) == "libnvidia-api.so.1"
    mounts = {mount.host_path for mount in generate(inventory).container_edits.mounts}
    assert api.path in mounts
    assert any(path.endswith("/libglxserver_nvidia.so.550.163.01") for path in mounts)
    places = {mount.container_path for mount in generate(inventory).container_edits.mounts}
    assert "/usr/lib/xorg/modules/extensions/libglxserver_nvidia.so" in places


def test_the_gbm_link_is_where_libgbm_looks(host: GetHost, look: Look) -> None:
    """On Debian the library lies in nvidia/current; libgbm looks in its own directory."""
    fake, inventory = host("550-debian"), look("550-debian")
    place = f"{MULTIARCH}/gbm/nvidia-drm_gbm.so"
    made = {str(link): text for text, link in links(inventory, catalogue())}
    assert made[place] == "../nvidia/current/libnvidia-allocator.so.1"
    expected = "libnvidia-allocator.so.550.163.01"
    assert base_name(fake.resolve(place)) == expected
    assert f"{MULTIARCH}/nvidia/current/gbm/nvidia-drm_gbm.so" not in made


@pytest.mark.parametrize("name", [each for each in LAYOUTS if each != "550-unloaded"])
def test_links_lead_to_files_that_are_mounted(look: Look, name: str) -> None:
    """Followed as the container would, every link of the hook ends at a file of the driver."""
    inventory = look(name)
    made = {str(link): text for text, link in links(inventory, catalogue())}
    files = {str(library_path(inventory, library)) for library in inventory.libraries}
    # The X server's modules are files among the links' targets, too.
    spec = generate(dataclasses.replace(inventory, hook=HOOK))
    files |= {each.container_path for each in spec.container_edits.mounts}
    assert not made.keys() & files
    for link, text in made.items():
        place = link
        for _ in range(4):
            if place in made:
                place = os.path.normpath(os.path.join(parent(place), made[place]))
        assert place in files, f"{link} -> {text}"


class TestSearchPath:
    """``--library-search-path`` replaces every other place."""

    def test_only_there(self, look: Look) -> None:
        inventory = look("550-debian", library_search_path=(f"{MULTIARCH}/nvidia/current",))
        homes = {parent(library.path) for library in inventory.libraries if library.bits == 64}
        # DT_NEEDED brings nothing in: the rest of the driver lies elsewhere.
        assert homes == {f"{MULTIARCH}/nvidia/current"}
        assert {each.name for each in inventory.missing} >= {"libnvidia-glcore.so.550.163.01"}

    def test_several(self, look: Look) -> None:
        both = look("550-debian", library_search_path=(f"{MULTIARCH}/nvidia/current", MULTIARCH))
        all64 = [each for each in look("550-debian").libraries if each.bits == 64]
        assert [each.path for each in both.libraries] == [each.path for each in all64]

    def test_the_operators_root(self, look: Look) -> None:
        root = "/run/nvidia/driver"
        inventory = look("550-operator", library_search_path=(f"{root}{MULTIARCH}",))
        assert f"{root}{MULTIARCH}/libcuda.so.550.163.01" in {
            each.path for each in inventory.libraries
        }

    def test_outside_of_the_driver_root(self, host: GetHost) -> None:
        with pytest.raises(CdiGenError, match="outside the driver root"):
            look_at(host("550-operator"), library_search_path=("/usr/lib",))

    def test_not_there(self, host: GetHost) -> None:
        with pytest.raises(CdiGenError, match="no such directory"):
            look_at(host("550-1gpu"), library_search_path=("/opt/nowhere",))


def test_an_unlisted_directory_is_found_through_the_loader_cache(own_host: GetHost) -> None:
    """A driver in a place that no list has, as long as ldconfig knows it."""
    fake = own_host("550-server")
    odd = fake.root / "srv/nvidia-550/lib"
    odd.mkdir(parents=True)
    for path in sorted((fake.root / MULTIARCH[1:]).iterdir()):
        if "nvidia" in path.name or "libcuda" in path.name or "libnvcuvid" in path.name:
            path.rename(odd / path.name)
    (fake.root / "etc/ld.so.conf.d/nvidia.conf").write_text("/srv/nvidia-550/lib\n")
    subprocess.run(["ldconfig", "-X", "-r", str(fake.root)], check=True)
    inventory = look_at(fake)
    assert len(inventory.libraries) == 11
    assert {parent(each.path) for each in inventory.libraries} == {"/srv/nvidia-550/lib"}


class TestClosure:
    """What a library needs comes along, wherever it lies and whatever it is called."""

    @staticmethod
    def search(fake: FakeHost, hide: str) -> tuple[list[Library], list[str]]:
        """Look for libraries when no name says that ``hide`` is one of the driver's."""
        search = LibrarySearch(Root(seen_from=str(fake.root)), catalogue(), "x86_64")
        names = search._library_names
        is_of_version = names.is_of_version
        names.is_of_version = (  # type: ignore[method-assign]
            lambda name, version: not name.startswith(hide) and is_of_version(name, version)
        )
        result = search.find(fake.driver_version)
        missing = [each.name for each in result.records if isinstance(each, Missing)]
        return result.values.libraries, missing

    @pytest.mark.parametrize(
        "hidden", ["libnvidia-glcore", "libnvidia-tls", "libnvidia-glsi", "libnvidia-gpucomp"]
    )
    def test_a_needed_library_is_brought_in(self, host: GetHost, hidden: str) -> None:
        fake = host("550-debian")
        libraries, missing = self.search(fake, hidden)
        assert hidden in {base_name(each.path).partition(".so")[0] for each in libraries}
        assert not missing

    def test_one_that_nothing_needs_is_not(self, host: GetHost) -> None:
        libraries, _ = self.search(host("550-debian"), "libnvidia-ml")
        assert "libnvidia-ml.so.1" not in {each.soname for each in libraries}

    def test_one_that_is_nowhere_is_missing(self, own_host: GetHost) -> None:
        fake = own_host("550-debian")
        (fake.root / f"{MULTIARCH[1:]}/libnvidia-glcore.so.550.163.01").unlink()
        inventory = look_at(fake)
        missing = {each.name: each.reason for each in inventory.missing}
        assert "needs it" in missing["libnvidia-glcore.so.550.163.01"]


class TestLeftovers:
    """Libraries of another driver version are not taken, whatever links to them."""

    def test_another_version_beside(self, own_host: GetHost) -> None:
        fake = own_host("550-server")
        libraries = fake.root / MULTIARCH[1:]
        for name in ("libcuda", "libnvidia-nvvm", "libnvidia-ml"):
            source = libraries / f"{name}.so.550.163.01"
            (libraries / f"{name}.so.535.261.03").hardlink_to(source)
        (libraries / "libnvidia-nvvm.so.4").unlink()
        (libraries / "libnvidia-nvvm.so.4").symlink_to("libnvidia-nvvm.so.535.261.03")
        inventory = look_at(fake)
        assert driver_of(inventory).library_version == "550.163.01"
        assert not [each.path for each in inventory.libraries if "535" in each.path]
        assert len(inventory.libraries) == 11

    def test_copies_count_once(self, own_host: GetHost) -> None:
        fake = own_host("550-server")
        copy = fake.root / "usr/local/nvidia/lib64/libcuda.so.550.163.01"
        copy.parent.mkdir(parents=True)
        copy.hardlink_to(fake.root / MULTIARCH[1:] / copy.name)
        inventory = look_at(fake)
        assert [each.path for each in inventory.libraries if "libcuda.so" in each.path] == [
            f"{MULTIARCH}/libcuda.so.550.163.01"
        ]
        assert any("a copy of" in each.reason for each in inventory.ignored)


def test_nothing_changed_on_the_host(host: GetHost) -> None:
    """Looking is reading: no file of a host has another time or size afterwards."""
    fake = host("550-1gpu")

    def state() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
            for path in fake.root.rglob("*")
        }

    before = state()
    look_at(fake)
    assert state() == before
