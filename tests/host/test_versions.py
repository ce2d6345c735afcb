# SPDX-License-Identifier: Apache-2.0
"""Hosts with files of several drivers: everything taken is the loaded one's, or no version's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.generate import generate
from cdi_gen.inventory import Inventory
from cdi_gen.paths import base_name, parent
from tests.fakehost import driver_packages, layouts
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.host import driver_tree
from tests.host.driver_tree import SmallHost, link

pytestmark = pytest.mark.host

LIB64 = "/usr/lib64"


def tree(driver_set: str) -> driver_tree.Tree:
    try:
        return driver_tree.tree(driver_set)
    except DriverRootUnavailableError as error:
        pytest.skip(f"no driver {driver_set}: {error}")


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., SmallHost]:
    """Give a host whose loaded module is of one driver; the others are put beside it."""

    def made(loaded: str, *others: str, directory: str = LIB64) -> SmallHost:
        host = SmallHost(root=tmp_path, tree=tree(loaded))
        host.boot()
        for driver_set in (loaded, *others):
            SmallHost(root=tmp_path, tree=tree(driver_set)).libraries(directory)
        return host

    return made


def names(inventory: Inventory) -> set[str]:
    return {base_name(each.path) for each in inventory.libraries}


def left(inventory: Inventory) -> dict[str, str]:
    return {base_name(each.path): each.reason for each in inventory.ignored}


class TestOneDirectory:
    """Two files of one library that does not carry the driver's version, side by side."""

    def test_nvvm_left_by_470(self, host: Callable[..., SmallHost]) -> None:
        fake = host("550-full")
        SmallHost(root=fake.root, tree=tree("470-tesla")).libraries(LIB64, "libnvidia-nvvm")
        # Whatever its link says: ldconfig prefers the one with the higher number, the leftover
        # was there first.
        for text in ("libnvidia-nvvm.so.4.0.0", f"libnvidia-nvvm.so.{fake.tree.version}"):
            link(fake.root / "usr/lib64/libnvidia-nvvm.so.4", text)
            inventory = fake.look()
            found = [each for each in inventory.libraries if "libnvidia-nvvm.so" in each.path]
            assert [base_name(each.path) for each in found] == [
                f"libnvidia-nvvm.so.{fake.tree.version}"
            ]
            assert (
                "the host uses instead, under this name"
                in left(inventory)["libnvidia-nvvm.so.4.0.0"]
            )

    @pytest.mark.parametrize("chosen", ["1.1.9", "1.1.18", "1.1.20"])
    @pytest.mark.parametrize("library", ["libnvidia-egl-wayland", "libnvidia-egl-gbm"])
    def test_the_hosts_own_link_decides(
        self, host: Callable[..., SmallHost], library: str, chosen: str
    ) -> None:
        """A distribution's egl-wayland beside the one of NVIDIA's installer."""
        fake = host("550-full")
        (source,) = (
            path for name, path in fake.tree.libraries.items() if name.startswith(library + ".so")
        )
        (fake.root / f"usr/lib64/{source.name}").unlink()
        for version in ("1.1.9", "1.1.18", "1.1.20"):
            fake.file(f"{LIB64}/{library}.so.{version}", source)
        link(fake.root / f"usr/lib64/{library}.so.1", f"{library}.so.{chosen}")
        assert [each for each in names(fake.look()) if each.startswith(library + ".so")] == [
            f"{library}.so.{chosen}"
        ]

    def test_without_a_link_the_newest(self, host: Callable[..., SmallHost]) -> None:
        """As numbers: 1.1.20 is newer than 1.1.9, which comes later in the alphabet."""
        fake = host("550-full")
        library = "libnvidia-egl-wayland"
        (source,) = (
            path for name, path in fake.tree.libraries.items() if name.startswith(library + ".so")
        )
        (fake.root / f"usr/lib64/{library}.so.1").unlink()
        for version in ("1.1.20", "1.1.9"):
            fake.file(f"{LIB64}/{library}.so.{version}", source)
        found = {each for each in names(fake.look()) if each.startswith(library + ".so")}
        assert found == {f"{library}.so.1.1.20"}

    def test_without_a_link_the_elf_files_own_version(self, host: Callable[..., SmallHost]) -> None:
        """libnvidia-api.so.1 has the driver's version inside; another driver's has a higher name."""
        fake = host("550-full", "535-full")
        own, other = (
            tree(each).libraries["libnvidia-api.so.1"] for each in ("550-full", "535-full")
        )
        (fake.root / "usr/lib64/libnvidia-api.so.1").unlink()
        fake.file(f"{LIB64}/libnvidia-api.so.1.0.1", own)
        fake.file(f"{LIB64}/libnvidia-api.so.1.0.2", other)
        inventory = fake.look()
        assert [each for each in names(inventory) if "libnvidia-api" in each] == [
            "libnvidia-api.so.1.0.1"
        ]
        assert left(inventory)["libnvidia-api.so.1.0.2"] == "belongs to driver 535.261.03"


class TestDirectories:
    """The same across directories."""

    @pytest.mark.parametrize("first", ["/usr/lib64", "/usr/local/nvidia/lib64"])
    def test_the_loader_decides(self, host: Callable[..., SmallHost], first: str) -> None:
        fake = host("550-full", directory="/usr/local/nvidia/lib64")
        library = "libnvidia-egl-wayland.so"
        (source,) = (path for name, path in fake.tree.libraries.items() if name.startswith(library))
        own = fake.file(f"{LIB64}/{library}.1.1.9", source)
        link(own.with_name(f"{library}.1"), own.name)
        order = [first, *({"/usr/lib64", "/usr/local/nvidia/lib64"} - {first})]
        (fake.root / "etc").mkdir(exist_ok=True)
        fake.text("etc/ld.so.conf", "\n".join(order) + "\n")
        layouts.ldconfig(fake.root)
        (found,) = (each for each in fake.look().libraries if library in each.path)
        assert parent(found.path) == first

    def test_api_of_another_driver_in_a_directory_of_its_own(
        self, host: Callable[..., SmallHost]
    ) -> None:
        """It is the only one there is; the loaded driver has none."""
        fake = host("550-full", directory="/usr/local/nvidia/lib64")
        (fake.root / "usr/local/nvidia/lib64/libnvidia-api.so.1").unlink()
        SmallHost(root=fake.root, tree=tree("535-full")).libraries(LIB64)
        inventory = fake.look()
        assert not [each for each in names(inventory) if "libnvidia-api" in each]
        assert left(inventory)["libnvidia-api.so.1"] == "belongs to driver 535.261.03"


@pytest.mark.parametrize("loaded", ["550-full", "535-full", "470-tesla"])
def test_three_versions_side_by_side(host: Callable[..., SmallHost], loaded: str) -> None:
    """Their links lead to whichever was installed last; in the container they are the loaded's."""
    versions = ["550-full", "535-full", "470-tesla"]
    versions.remove(loaded)
    fake = host(loaded, *versions)
    for name in ("libnvidia-ml", "libcuda", "libnvidia-encode"):
        link(fake.root / f"usr/lib64/{name}.so", f"{name}.so.1")
    inventory = fake.look()
    versioned = {each for each in names(inventory) if re.search(r"\.\d{3}\.", each)}
    assert all(each.endswith(f".so.{fake.tree.version}") for each in versioned)
    by_name = {base_name(each.path).partition(".so")[0]: each for each in inventory.libraries}
    for name in ("libnvidia-ml", "libcuda", "libnvidia-encode"):
        assert {f"{name}.so", f"{name}.so.1"} <= set(by_name[name].links)
    assert "libnvidia-api" not in by_name  # the one file of that name is another version's


@pytest.mark.parametrize("version", ["470.256.02", "535.261.03"])
def test_two_drivers_behind_alternatives(tmp_path: Path, version: str) -> None:
    """Debian's tesla-470 and 535, both installed; the alternatives choose 535."""
    try:
        root = driver_packages.driver_root("470-tesla+535")
    except DriverRootUnavailableError as error:
        pytest.skip(f"no driver root: {error}")
    layouts.clone(root, tmp_path / "host")
    fake = SmallHost(
        root=tmp_path / "host", tree=driver_tree.tree("470-tesla+535"), version=version
    )
    fake.boot()
    other = ({"470.256.02", "535.261.03"} - {version}).pop()
    inventory = fake.look()
    mounts = {
        each.container_path: each.host_path for each in generate(inventory).container_edits.mounts
    }
    for path in mounts.values():
        assert other not in path
        content = (fake.root / path[1:]).read_bytes()
        assert version.encode() in content or other.encode() not in content, path
    private = {"470.256.02": "tesla-470", "535.261.03": "current"}[version]
    assert mounts["/usr/bin/nvidia-smi"] == f"/usr/lib/nvidia/{private}/nvidia-smi"
    assert mounts["/usr/bin/nvidia-debugdump"] == f"/usr/lib/nvidia/{private}/nvidia-debugdump"
    modules = {base_name(each): parent(each) for each in mounts.values() if "nvidia_drv" in each}
    assert modules == {"nvidia_drv.so": f"/usr/lib/nvidia/{private}"}
    nvvm = {"470.256.02": "libnvidia-nvvm.so.4.0.0", "535.261.03": "libnvidia-nvvm.so.535.261.03"}
    assert nvvm[version] in names(inventory)
    assert ("libnvidia-api.so.1" in names(inventory)) == (version == "535.261.03")
    assert not [missing for missing in inventory.missing if missing.code == "CDG-H203"]
