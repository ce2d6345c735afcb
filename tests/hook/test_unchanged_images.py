# SPDX-License-Identifier: Apache-2.0
"""The whole hook on images in which nothing is newer than the cache: as a scan, and as ldconfig."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.hook.conftest import TRIPLET, Container
from tests.hook.glibc import assert_same
from tests.hook.ldsocache.test_unchanged import age
from tests.hook.shared_objects import shared_object

LIB = f"/usr/lib/{TRIPLET}"
TREE = "/usr/local/nvidia"
SONAMES = ("libcuda.so.1", "libnvidia-ml.so.1")
LINKS = tuple(
    word
    for soname in SONAMES
    for link in (f"{LIB}/{soname}", f"/usr/lib/{soname}", f"{LIB}/{soname.removesuffix('.1')}")
    for word in ("--link", f"{TREE}/lib64/{soname}::{link}")
)
FILES_LINKS = tuple(
    word for soname in SONAMES for word in ("--link", f"{soname}.550::{LIB}/{soname}")
)

FORMS = {
    "tree": (
        f'mkdir -p "$R{TREE}"; mount --bind "$B/tree" "$R{TREE}"',
        (*LINKS, "--folder", f"{TREE}/lib64"),
    ),
    "files": (
        "\n".join(
            f'touch "$R{LIB}/{soname}.550"; mount --bind "$B/tree/lib64/{soname}.550" "$R{LIB}/{soname}.550"'
            for soname in SONAMES
        ),
        (*FILES_LINKS, "--folder", LIB),
    ),
}
"""What the runtime does before the hook, and the options of the hook."""

WAYS = {
    "merge": "",
    "scan": 'touch -d 2100-01-01 "$R/etc/ld.so.cache"',  # a cache of the future proves nothing
    "ldconfig": "",
}


def library(path: Path, soname: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(shared_object(soname.encode(), "x86_64"))


class Image:
    """An image whose ldconfig ran last, and a driver beside it."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.files = container.bundle / "image"
        shutil.rmtree(container.root)
        for folder in ("etc/ld.so.conf.d", "proc", "usr/lib64", f"{LIB}/odd"[1:], "opt/lib"):
            (self.files / folder).mkdir(parents=True)
        for name in ("lib", "lib64"):
            (self.files / name).symlink_to(f"usr/{name}")
        (self.files / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
        (self.files / "etc/ld.so.conf.d/a.conf").write_text(f"/opt/lib\n/lib/{TRIPLET}\n{LIB}\n")
        library(self.files / "lib64/ld-linux-x86-64.so.2", "ld-linux-x86-64.so.2")
        library(self.files / f"{LIB}/libc.so.6"[1:], "libc.so.6")
        for number in range(30):
            library(self.files / f"{LIB}/libimage{number}.so.1.2"[1:], f"libimage{number}.so.1")
        library(self.files / "opt/lib/libimage3.so.1", "libimage3.so.1")
        self.finish()
        for soname in SONAMES:
            library(container.bundle / f"tree/lib64/{soname}.550", soname)
            (container.bundle / f"tree/lib64/{soname}").symlink_to(f"{soname}.550")

    def finish(self) -> None:
        """Run ldconfig, with links, and make every directory older than the cache."""
        subprocess.run(["/sbin/ldconfig", "-r", self.files], check=True, capture_output=True)
        age(self.files)

    def cache(self, form: str, way: str) -> bytes:
        """Start a new container, and return the cache that the hook writes."""
        mounts, words = FORMS[form]
        container = self.container
        shutil.rmtree(container.root, ignore_errors=True)
        subprocess.run(["cp", "-a", self.files, container.root], check=True)
        config = container.bundle / "config.json"
        config.write_text(config.read_text())
        before = f"R={container.root} B={container.bundle}\n{mounts}\n{WAYS[way]}"
        container.with_mounts(before, 'cat "$R/etc/ld.so.cache"; exit "$status"')
        if way == "ldconfig":
            words = (*words, "--ldconfig-path", "/sbin/ldconfig")
        process = subprocess.run(
            [*container.within, *container.launcher, "create-container", *words],
            input=container.state(),
            capture_output=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            check=False,
        )
        assert (process.returncode, process.stderr) == (0, b"")
        return process.stdout


@pytest.fixture
def image(container: Container) -> Image:
    return Image(container)


@pytest.mark.parametrize("form", FORMS)
def test_merge_scan_and_ldconfig_agree(image: Image, form: str) -> None:
    merged = image.cache(form, "merge")
    assert_same(merged, image.cache(form, "scan"))
    assert_same(merged, image.cache(form, "ldconfig"))
    assert {soname.encode() in merged for soname in SONAMES} == {True}
    assert merged.count(b"/libimage3.so.1\0") == 2


@pytest.mark.parametrize("form", FORMS)
def test_image_that_was_committed_with_another_driver(image: Image, form: str) -> None:
    """Empty files, links to them, and their entries in the cache."""
    place = image.files / LIB[1:]
    for soname in (*SONAMES, "libnvidia-old.so.1"):
        library(place / f"{soname}.535", soname)
        (place / soname).symlink_to(f"{soname}.535")
    image.finish()
    for soname in (*SONAMES, "libnvidia-old.so.1"):
        os.truncate(place / f"{soname}.535", 0)
    age(image.files)
    merged = image.cache(form, "merge")
    assert_same(merged, image.cache(form, "scan"))
    assert b"libnvidia-old" not in merged


@pytest.mark.parametrize("form", FORMS)
def test_library_that_was_added_without_ldconfig(image: Image, form: str) -> None:
    library(image.files / f"{LIB}/libadded.so.1"[1:], "libadded.so.1")
    age(image.files)
    merged = image.cache(form, "merge")
    assert_same(merged, image.cache(form, "scan"))
    assert b"libadded" in merged


@pytest.mark.parametrize("way", ["merge", "scan"])
@pytest.mark.parametrize("at", [0, 1, 10**9])
def test_emptied_library_of_a_directory_that_is_not_older(image: Image, way: str, at: int) -> None:
    """The cache has the time of the directory, or an earlier one."""
    os.truncate(image.files / f"{LIB}/libimage5.so.1.2"[1:], 0)
    written = time.time_ns() - 10**12
    os.utime(image.files / "etc/ld.so.cache", ns=(written, written))
    age(image.files, written + at)
    assert b"libimage5" not in image.cache("tree", way)
