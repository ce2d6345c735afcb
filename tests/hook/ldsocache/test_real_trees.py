# SPDX-License-Identifier: Apache-2.0
"""Our ld.so.cache of real images and drivers equals that of glibc's ldconfig, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_hook.ldso import cache_file
from cdi_hook.ldso.cache_file import Entry
from tests.fakehost.driver_packages import DRIVER_SETS
from tests.hook.conftest import TRIPLET, Container
from tests.hook.glibc import (
    assert_same,
    assert_same_entries,
    folders_of,
    generator_of,
    glibc_cache,
    our_cache,
)

Tree = Callable[[str], Path]

OF_THE_ZOO = (
    "cuda-devel",
    "cuda-compat",
    "cuda-rockylinux",
    "committed",
    "pytorch",
    "large-bullseye",
    "large-rhel",
)
IMAGES = ("debian", "rhel", "distroless", "bookworm", "trixie", *OF_THE_ZOO)

OLDER = {"2.31": ("cuda-compat", "-c", "new"), "2.36": ("debian",)}
"""An image with the ldconfig of a glibc version, and the option by which it writes the new format."""


@pytest.fixture(scope="session")
def newest(tree: Tree) -> Path:
    """The ldconfig of glibc 2.41, so that results do not depend on the machine of the tests."""
    return tree("trixie") / "usr/sbin/ldconfig"


@pytest.mark.engine
@pytest.mark.parametrize("name", IMAGES)
def test_cache_of_an_image(tree: Tree, newest: Path, name: str) -> None:
    root = tree(name)
    theirs = glibc_cache(root, folders_of(root), program=newest)
    assert len(theirs) > 400
    assert b"2.41" in generator_of(theirs)
    assert_same(our_cache(root, folders_of(root), generator=generator_of(theirs)), theirs)


@pytest.mark.host
@pytest.mark.parametrize("name", DRIVER_SETS)
def test_cache_of_a_driver(tree: Tree, newest: Path, name: str) -> None:
    root = tree(name)
    folders = [f"/usr/lib/{TRIPLET}/nvidia/current", *folders_of(root)]
    theirs = glibc_cache(root, folders, program=newest)
    assert_same(our_cache(root, folders, generator=generator_of(theirs)), theirs)


@pytest.mark.host
@pytest.mark.parametrize("glibc", OLDER)
@pytest.mark.parametrize("name", [*DRIVER_SETS, *IMAGES])
def test_older_glibcs_find_the_same(tree: Tree, name: str, glibc: str) -> None:
    image, *options = OLDER[glibc]
    root = tree(name)
    theirs = glibc_cache(root, folders_of(root), *options, program=tree(image) / "sbin/ldconfig")
    assert_same_entries(our_cache(root, folders_of(root)), theirs)


@pytest.mark.engine
@pytest.mark.parametrize("name", IMAGES)
def test_with_the_images_cache_as_memory(tree: Tree, name: str) -> None:
    root = tree(name)
    cache = root / "etc/ld.so.cache"
    memory = cache.read_bytes() if cache.exists() else glibc_cache(root, folders_of(root))
    assert our_cache(root, folders_of(root), memory) == our_cache(root, folders_of(root))


@pytest.mark.host
@pytest.mark.parametrize("name", ["550-full", "470-tesla"])
def test_a_driver_with_memory(tree: Tree, name: str) -> None:
    root = tree(name)
    memory = (root / "etc/ld.so.cache").read_bytes()
    for folders in (folders_of(root), [f"/usr/lib/{TRIPLET}", *folders_of(root)]):
        assert our_cache(root, folders, memory) == our_cache(root, folders)


def test_cache_of_this_machine() -> None:
    """The libraries of the machine that runs the tests: hundreds of every kind."""
    own = Path("/etc/ld.so.cache").read_bytes()
    parsed = cache_file.parse(own)
    assert parsed is not None
    entries = [
        Entry(name, folder + b"/" + name, flags)
        for folder, names in parsed.folders.items()
        for name, flags in names.items()
    ]
    if parsed.generator == cache_file.GENERATOR or b"glibc-hwcaps" in own:
        pytest.skip("the machine's cache is of another form")
    assert cache_file.build(entries, [], parsed.generator) == own


def test_the_loader_finds_each_of_hundreds(image: Container, compiled: Callable[..., Path]) -> None:
    """The loader finds entries by a binary search, which needs their order."""
    mould = compiled(
        "mould", "int answer(void){return 42;}",
        "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libmould000.so.00",
    ).read_bytes()  # fmt: skip
    names = [f"libmould{number:03}.so.{number % 23:02}" for number in range(300)]
    for name in names:
        image.write(f"/opt/odd/{name}", mould.replace(b"libmould000.so.00", name.encode()))
    assert image.hook("update-ldcache", "--folder", "/opt/odd").status == 0
    ended = subprocess.run(
        ["/usr/sbin/chroot", image.root, "/bin/loads", *names],
        env={}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout.split() == [f"{name}=42" for name in names]
