# SPDX-License-Identifier: Apache-2.0
"""A program in the container loads an injected library by its SONAME."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.hook.conftest import Container

CHROOT = "/usr/sbin/chroot"


def loads(image: Container, *names: str) -> dict[str, str]:
    ended = subprocess.run(
        [CHROOT, image.root, "/bin/loads", *names],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(line.split("=") for line in ended.stdout.splitlines())


def test_a_program_finds_the_driver(image: Container) -> None:
    names = ("libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1")
    assert loads(image, *names) == dict.fromkeys(names, "-1")
    ended = image.hook(
        "create-container",
        "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1",
        "--link", "libcuda.so.1::/opt/odd/libcuda.so",
        "--folder", "/opt/odd", "--folder", "/usr/lib/odder",
    )  # fmt: skip
    assert (ended.status, ended.said) == (0, "")
    assert loads(image, *names) == dict.fromkeys(names, "42")


def test_the_images_ldconfig_agrees(image: Container) -> None:
    """glibc's ldconfig reads our cache, and a cache that it writes still has our directories."""
    shutil.copy("/sbin/ldconfig", image.root / "bin/ldconfig")
    image.hook(
        "create-container", "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1",
        "--folder", "/opt/odd", "--folder", "/usr/lib/odder",
    )  # fmt: skip

    def listed() -> set[str]:
        listing = subprocess.run(
            [CHROOT, image.root, "/bin/ldconfig", "-p"], capture_output=True, text=True, check=True
        ).stdout
        return {line.strip() for line in listing.splitlines() if "=>" in line}

    ours = listed()
    assert {line.split(" ")[0] for line in ours} >= {
        "libcuda.so.1",
        "libnvidia-ml.so.1",
        "libc.so.6",
    }
    subprocess.run([CHROOT, image.root, "/bin/ldconfig", "-X"], capture_output=True, check=True)
    assert {line for line in ours if "nvidia" in line or "cuda" in line} < listed() <= ours
    assert loads(image, "libcuda.so.1") == {"libcuda.so.1": "42"}


def test_a_library_for_newer_processors_is_preferred(
    image: Container, library: Callable[[Path, str], None]
) -> None:
    """glibc-hwcaps directories in the cache, compared with the real ldconfig."""
    library(image.root / "opt/odd/glibc-hwcaps/x86-64-v2/libcuda.so.1", "libcuda.so.1")
    assert image.hook("update-ldcache", "--folder", "/opt/odd").status == 0
    listing = subprocess.run(
        ["/sbin/ldconfig", "-p", "-C", image.root / "etc/ld.so.cache"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "/opt/odd/glibc-hwcaps/x86-64-v2/libcuda.so.1" in listing
