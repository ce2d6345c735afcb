# SPDX-License-Identifier: Apache-2.0
"""Runs glibc's ldconfig and our writer on the same tree, to compare the caches byte by byte."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cdi_base.rootfs.rootfs import RootFs
from cdi_hook.ldso import cache_file, conf, shared_libraries
from cdi_hook.steps import update_ldcache

LDCONFIG = "/sbin/ldconfig"

# Mounted over the tree's /proc in a mount namespace: a tree of the lab's cache must not change.
_RUN = """\
set -e
mount -t tmpfs none "$1/proc"
printf %s "$2" > "$1/proc/conf"
root=$1 program=$3; shift 3
"$program" -r "$root" -X -i -f /proc/conf -C /proc/cache "$@" 2>/dev/null
cat "$root/proc/cache"
"""


def glibc_cache(
    root: Path, folders: Sequence[str], *options: str, program: str | Path = LDCONFIG
) -> bytes:
    """The cache that ldconfig writes for these directories of a tree, which has an empty /proc."""
    conf = "".join(f"{folder}\n" for folder in folders)
    arguments = ["sh", "-c", _RUN, "sh", str(root), conf, str(program), *options]
    ended = subprocess.run(
        ["unshare", "-m", *arguments], capture_output=True, timeout=30, check=False
    )
    if ended.returncode:
        pytest.skip(f"no ldconfig can be run here: {ended.stderr.decode()}")
    return ended.stdout


def our_cache(
    root: Path,
    folders: Sequence[str],
    memory: bytes | None = None,
    generator: bytes = cache_file.GENERATOR,
    *,
    written: int = 0,
) -> bytes:
    """The cache that our writer builds for them; `memory` is the image's older cache.

    `written` is the time of that cache, in nanoseconds; 0: older than every directory.
    """
    old_cache = None if memory is None else cache_file.parse(memory, written)
    libraries, hwcaps = shared_libraries.entries(
        root_fs(root), list(folders), old_cache, time.monotonic() + 30
    )
    return cache_file.build(libraries, hwcaps, generator)


def root_fs(root: Path) -> RootFs:
    return RootFs(os.open(root, os.O_PATH | os.O_DIRECTORY))


def folders_of(root: Path) -> list[str]:
    """The directories of the image's configuration and of the system, as update-ldcache uses them."""
    listed = conf.directories(root_fs(root), excluded=update_ldcache.DROP_IN) or []
    return list(dict.fromkeys((*listed, *update_ldcache._SYSTEM)))


def generator_of(cache: bytes) -> bytes:
    parsed = cache_file.parse(cache)
    assert parsed is not None
    return parsed.generator


def assert_same(ours: bytes, theirs: bytes) -> None:
    """Compare two caches byte for byte; the message of a failure lists their entries."""
    assert lines_of(ours) == lines_of(theirs)
    assert ours == theirs


def assert_same_entries(ours: bytes, theirs: bytes) -> None:
    """Compare the libraries of two caches; an older glibc writes other bytes.

    Before 2.37 it has the kernel that a library asks for, and takes an i386 library that does not
    need libc.so.6 for one of an unknown C library, which a loader takes like its own. Before 2.33
    it knows no `glibc-hwcaps`, and its loader passes over the entries of them.
    """
    knows_hwcaps = b"glibc-hwcaps" in theirs

    def plain(cache: bytes) -> list[str]:
        _, *entries = lines_of(cache)
        return [
            _KERNEL.sub("", line).replace("(ELF)", "(libc6)")
            for line in entries
            if " => " in line and (knows_hwcaps or "glibc-hwcaps" not in line)
        ]

    assert plain(ours) == plain(theirs)


_KERNEL = re.compile(r", OS ABI: Linux [0-9.]+")


def lines_of(cache: bytes) -> list[str]:
    """The output of `ldconfig -p`."""
    with tempfile.TemporaryFile() as file:
        file.write(cache)
        file.flush()
        printed = subprocess.run(
            [LDCONFIG, "-p", "-C", "/dev/stdin"], stdin=file, capture_output=True, check=True
        ).stdout
    return [line.strip() for line in printed.decode(errors="backslashreplace").splitlines()]
