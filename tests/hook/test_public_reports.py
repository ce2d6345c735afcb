# SPDX-License-Identifier: Apache-2.0
"""Images and specs of public reports whose tests need neither a loader nor a linker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_hook.steps import update_ldcache
from tests.hook.conftest import Container

Library = Callable[[Path, str], None]

STORE = "/nix/store"
NVIDIA = f"{STORE}/x5522a7p46nnbwxjv8w942p6qps7x0lw-nvidia-x11-565.77-6.6.79/lib"
GLIBC = f"{STORE}/nqb2ns2d1lahnd5ncwmn6k84qfd7vx2k-glibc-2.40-36/lib"


@pytest.fixture
def red_hat(container: Container, library: Library) -> Container:
    """A UBI image: libraries in /usr/lib64, which no file of ld.so.conf.d lists."""
    for name in ("libc.so.6", "libm.so.6"):
        library(container.root / f"usr/lib64/{name}", name)
    (container.root / "lib64").symlink_to("usr/lib64")
    container.write(update_ldcache.GLIBC_LOADER)
    container.write("/etc/ld.so.conf", "include ld.so.conf.d/*.conf\n")
    return container


@pytest.mark.parametrize("folders", [[NVIDIA], [NVIDIA, "/usr/lib64"]])
def test_glibc_of_a_nixos_host_does_not_come_before_the_images(
    red_hat: Container, library: Library, folders: list[str]
) -> None:
    """NVIDIA/k8s-device-plugin#1182: the spec mounts the host's glibc, and Nix's ldconfig cached it.

    The directories that the loader searches without configuration were not searched.
    """
    for name in ("libc.so.6", "libm.so.6", "libthread_db.so.1"):
        library(red_hat.root / GLIBC[1:] / name, name)
    library(red_hat.root / NVIDIA[1:] / "libcuda.so.1", "libcuda.so.1")
    arguments = [word for folder in folders for word in ("--folder", folder)]
    process = red_hat.hook("update-ldcache", *arguments)
    assert (process.status, process.said) == (0, "")
    cached = red_hat.cached()
    assert cached["libcuda.so.1"] == f"{NVIDIA}/libcuda.so.1"
    assert {
        name: os.path.dirname(path) for name, path in cached.items() if name[:5] != "libcu"
    } == {
        "libc.so.6": "/lib64",
        "libm.so.6": "/lib64",
    }
