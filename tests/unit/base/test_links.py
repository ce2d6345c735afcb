# SPDX-License-Identifier: Apache-2.0
"""A path goes through 40 symbolic links, as in the kernel, whatever module follows them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_base import trust
from cdi_base.rootfs import resolve
from cdi_base.rootfs.rootfs import RootFs
from cdi_gen.host.roots import Root
from cdi_hook.ldso.library_directory import Folder


def by_text(directory: Path, name: str) -> None:
    Root(str(directory)).resolve(f"/{name}")


def by_owners(directory: Path, name: str) -> None:
    trust.fault(f"{directory}/{name}")


def by_descriptors(directory: Path, name: str) -> None:
    root = os.open(directory, os.O_PATH)
    try:
        os.close(resolve.by_walking(root, name, False))
    finally:
        os.close(root)


def by_the_kernel(directory: Path, name: str) -> None:
    (directory / name).read_bytes()


def in_one_directory(directory: Path, name: str) -> None:
    root = os.open(directory, os.O_RDONLY)
    try:
        folder = Folder(RootFs(os.dup(root)), "/", root, time.monotonic() + 10)
        folder.list(hwcaps=True)
        if folder.leads_to(name) is None:
            raise OSError(errno.ELOOP, "nowhere")
    finally:
        os.close(root)


WALKERS = [by_text, by_owners, by_descriptors, by_the_kernel, in_one_directory]


@pytest.mark.parametrize("follow", WALKERS)
def test_forty_links_are_followed_and_no_more(
    follow: Callable[[Path, str], None], tmp_path: Path
) -> None:
    (tmp_path / "libx.so.0").touch()
    for number in range(1, 42):
        (tmp_path / f"libx.so.{number}").symlink_to(f"libx.so.{number - 1}")
    follow(tmp_path, "libx.so.40")
    with pytest.raises(OSError, match=r"nowhere|[Tt]oo many") as caught:
        follow(tmp_path, "libx.so.41")
    assert caught.value.errno == errno.ELOOP
